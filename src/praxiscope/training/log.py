"""An epoch's row goes to metrics.jsonl, results.csv, TensorBoard, train.log and latest_results.txt."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import numpy as np

from praxiscope.models.layer_statistics import LayerReport
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.float_histogram import FloatHistogram

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class EpochLog:
    """Writes rows for people and for programs; :meth:`begin` first. As a context manager it closes its files.

    Args:
        run: where to.
        recipe: gives the number of epochs and the monitored figure.
    """

    def __init__(self, run: RunDir, recipe: Recipe) -> None:
        self._run = run
        self._recipe = recipe
        self._events: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._events is not None:
            self._events.close()

    def begin(self, *, after_step: int) -> None:
        """Take back what was logged for later steps, by a process that was killed before it saved them."""
        # Imported here: TensorBoard takes a second, and only training needs it.
        from torch.utils.tensorboard.writer import SummaryWriter

        self._run.truncate_metrics(after_step=after_step)
        if rows := self._run.read_metrics():
            atomic.write_text(self._run.results, _render_csv(rows))
        # Event files only grow: a mark in the new one makes readers drop what older ones have from there on.
        self._events = SummaryWriter(log_dir=str(self._run.tensorboard), purge_step=after_step + 1)

    def note(self, text: str) -> None:
        """Add a line with its UTC time to ``train.log``."""
        with self._run.train_log.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")

    def row(self, row: Mapping[str, float | int]) -> None:
        """Write one epoch's row everywhere."""
        assert self._events is not None, "begin() comes first"
        self._run.append_metrics(row)
        rows = self._run.read_metrics()
        atomic.write_text(self._run.results, _render_csv(rows))
        for key, value in row.items():
            if key not in {"epoch", "step"}:
                self._events.add_scalar(key, value, int(row["step"]))
        self._events.flush()
        self.note(format_row(row, self._recipe.train.epochs))
        self._run.write_latest_results(format_latest(rows, self._recipe))

    def layers(self, report: LayerReport, step: int) -> None:
        """Write what the layers do to TensorBoard: histograms, dead and saturated shares, norms."""
        assert self._events is not None, "begin() comes first"
        for row in report.layers:
            for kind, histogram in (("activations", row.activations), ("gradients", row.gradients)):
                if histogram.count:
                    limits, counts = _bucket(histogram)
                    self._events.add_histogram_raw(
                        f"{kind}/{row.name}", min=histogram.minimum, max=histogram.maximum,
                        num=histogram.count, sum=histogram.total, sum_squares=histogram.square_total,
                        bucket_limits=limits, bucket_counts=counts, global_step=step,
                    )  # fmt: skip
            figures = {
                "dead_share": row.dead_share,
                "saturated_share": row.saturated_share,
                "gradient_norm": row.gradient_norm,
            }
            for kind, value in figures.items():
                if value is not None:
                    self._events.add_scalar(f"layers_{kind}/{row.name}", value, step)
        for weight in report.weights:
            self._events.add_scalar(f"layers_gradient_to_weight/{weight.name}", weight.ratio, step)
        self._events.flush()


def _bucket(histogram: FloatHistogram) -> tuple[list[float], list[float]]:
    """Return upper edges and counts of at most 64 even buckets; the outermost 0.1 % share the end ones."""
    low, high = histogram.quantile(0.001), histogram.quantile(0.999)
    edges = np.unique([histogram.minimum, *np.linspace(low, high, 63), histogram.maximum])
    if len(edges) == 1:
        return [float(edges[0])], [float(histogram.count)]
    return edges[1:].tolist(), histogram.rebin(edges).tolist()


def format_row(row: Mapping[str, float | int], epochs: int) -> str:
    """Return an epoch's row as one line for a person; of several heads, with each head's own top-1."""
    heads = [key[4:-5] for key in row if key.startswith("val/") and key.endswith("_top1")]
    more = "  ".join(f"{head} {100 * row[f'val/{head}_top1']:.1f} %" for head in heads)
    if not heads:
        more = f"macro F1 {100 * row['val/macro_f1']:.1f} %"
    return (
        f"epoch {row['epoch']}/{epochs}  lr {row['lr']:.2e}  "
        f"train loss {row['train/loss']:.4f} top1 {100 * row['train/top1']:.1f} %  "
        f"val loss {row['val/loss']:.4f} top1 {100 * row['val/top1']:.1f} % "
        f"{more}  {row['images_per_s']:.0f} images/s  {row['epoch_s']:.0f} s"
    )


def format_latest(rows: list[dict[str, float]], recipe: Recipe) -> str:
    """Return ``latest_results.txt``: what ``cat`` should show while a run trains."""
    monitor, mode = recipe.train.monitor, recipe.train.monitor_mode
    chosen = [row for row in rows if row.get(monitor) is not None]
    lines = [f"{recipe.name}  epoch {int(rows[-1]['epoch'])} of {recipe.train.epochs}"]
    if chosen:
        # The earliest of equals, as training chooses it.
        best = (max if mode == "max" else min)(chosen, key=lambda row: row[monitor])
        lines.append(f"best {monitor} {best[monitor]:.4f} at epoch {int(best['epoch'])}")
    lines += [format_row(row, recipe.train.epochs) for row in rows[-10:]]
    return "\n".join(lines) + "\n"


def _render_csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
