"""Which clips are explained: those that a person names, failures, random ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.clips.spans import Span
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.explaining.index import Reason
from praxiscope.stats.calibration import compute_log_softmax
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_subjects import Explained, read_own_predictions


@dataclass(frozen=True, kw_only=True)
class ChosenClip:
    """A clip to explain.

    Attributes:
        sample_id: of the manifest; of a clip from elsewhere its path.
        source: its video or folder of frames.
        span: where it lies there; None for all of it.
        true: label of each head; empty where it has none.
        split: of the manifest; None of a clip from elsewhere.
        reason: why it was chosen.
    """

    sample_id: str
    source: Path
    span: Span | None
    true: dict[str, str]
    split: str | None
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class ClipWish:
    """What is asked for.

    Attributes:
        names: sample ids, videos, folders of frames.
        random: so many samples of the split.
        failures: so many of the most confident failures.
        methods: names; Grad-CAM where None; ``none`` for no maps.
        layer: to look at; the usual one where None.
        seed: of the random draw.
        nearest: so many nearest training clips of each; 0 for none.
        activations: draw activations of a middle frame, and kernels.
        embedding: map the features of the whole split in two dimensions.
        histograms: draw distributions of activations and gradients.
        default: nothing was asked for: failures are left out where they aren't known.
    """

    names: tuple[str, ...]
    random: int
    failures: int
    methods: tuple[str, ...] | None
    layer: str | None
    seed: int
    nearest: int = 5
    activations: bool = True
    embedding: bool = False
    histograms: bool = False
    default: bool = False


def choose_clips(explained: Explained, wish: ClipWish, watch: Watcher) -> list[ChosenClip]:
    """Return the clips to explain: those named, failures, then random ones; each once."""
    rows = {row["sample_id"]: row for row in explained.manifest.table.to_pylist()}
    chosen = [_choose_named(explained, rows, name) for name in dict.fromkeys(wish.names)]
    taken = {one.sample_id for one in chosen}
    if wish.failures:
        try:
            wrong = [name for name in rank_failures(explained) if name not in taken][: wish.failures]
        except DataError as problem:
            if not wish.default:
                raise
            watch.note(f"No failures shown: {problem}")
            wrong = []
        if len(wrong) < wish.failures:
            found = quantify(len(wrong), "failure")
            watch.note(f"Only {found} of {wish.failures} asked for: there are no more.")
        chosen += [_choose_row(explained, rows[name], "failure") for name in wrong]
        taken |= set(wrong)
    ids = explained.samples.sample_ids
    order = np.random.default_rng(wish.seed).permutation(len(ids)).tolist()
    drawn = [ids[row] for row in order if ids[row] not in taken][: wish.random]
    return chosen + [_choose_row(explained, rows[name], "random") for name in drawn]


def rank_failures(explained: Explained) -> list[str]:
    """Return ids of samples of which a head's answer is wrong, the most confident answers first.

    Raises:
        DataError: There are no predictions of these weights on the split.
    """
    predictions = read_own_predictions(explained)
    confidence, wrong = np.zeros(len(predictions)), np.zeros(len(predictions), bool)
    for head in predictions.heads:
        confidence += compute_log_softmax(predictions.logits(head)).max(axis=1)
        wrong |= predictions.preds(head) != predictions.targets(head)
    ranked = np.argsort(-confidence, kind="stable")
    known = set(explained.samples.sample_ids)
    ids = predictions.sample_ids
    return [ids[row] for row in ranked.tolist() if wrong[row] and ids[row] in known]


def _choose_named(explained: Explained, rows: dict[str, dict[str, Any]], name: str) -> ChosenClip:
    if name in rows:
        return _choose_row(explained, rows[name], "named")
    path = Path(name).expanduser()
    if not path.exists():
        raise UsageError(
            f"'{name}' is neither a sample of the run ({quantify(len(rows), 'id')}, such as "
            f"'{next(iter(rows))}') nor a video or a folder of frames.{did_you_mean(name, list(rows))}"
        )
    return ChosenClip(
        sample_id=str(path.resolve()), source=path, span=None, true={}, split=None, reason="named"
    )


def _choose_row(explained: Explained, row: dict[str, Any], reason: Reason) -> ChosenClip:
    return ChosenClip(
        sample_id=row["sample_id"],
        source=explained.manifest.root / row["path"],
        span=Span(first=row["first_frame"], count=row["num_frames"]),
        true={head: row[head] for head in explained.manifest.heads},
        split=row["split"],
        reason=reason,
    )
