"""Cascade: plan when a small network asks a large one, confirm it, and keep it for ``predict``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from praxiscope.comparison.cascade import (
    CascadePlan,
    Costs,
    Pair,
    Wish,
    pair_predictions,
    plan_cascade,
)
from praxiscope.comparison.cascade_costs import DEFAULT_RUNTIME, read_costs
from praxiscope.data.clips.crops import count_views
from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.evaluation.cascade_file import CascadeFile, CascadeMember, is_cascade, write_cascade
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.prediction.predictors import Network
from praxiscope.recipe.load import load_recipe
from praxiscope.reporting.cascade import write_cascade_figure, write_curve_csv
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.networks import open_run

_TIMED, _WARM = 30, 5
SPLITS = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class CascadeCosts:
    """Where the costs come from: one of three, else they are measured.

    Attributes:
        profile: a ``profile.json`` that knows both runs.
        runtime: which of its runtimes.
        small_ms: milliseconds of an image in the small network.
        large_ms: in the large one.
    """

    profile: Path | None = None
    runtime: str = DEFAULT_RUNTIME
    small_ms: float | None = None
    large_ms: float | None = None

    def __post_init__(self) -> None:
        if (self.small_ms is None) != (self.large_ms is None):
            raise UsageError("--cost-small and --cost-large go together: give both, in milliseconds.")
        if self.profile is not None and self.small_ms is not None:
            raise UsageError("--costs and --cost-small/--cost-large exclude each other: choose one.")


@dataclass(frozen=True, kw_only=True)
class CascadeResult:
    """What was planned.

    Attributes:
        folder: of ``cascade.json``, ``curve.csv``, ``curve.png``.
        plan: threshold, curves and figures.
        labels: what the small and the large run are called.
    """

    folder: Path
    plan: CascadePlan
    labels: tuple[str, str]


def cascade(  # noqa: PLR0913 - one parameter a flag
    small: RunDir | Path | str,
    large: RunDir | Path | str,
    *,
    output: Path | str,
    costs: CascadeCosts | None = None,
    wish: Wish | None = None,
    runs: Path | str = "runs",
    device: str | None = None,
    seed: int = 0,
    watch: Watcher | None = None,
) -> CascadeResult:
    """Plan a cascade of two runs on their validation predictions, and confirm it on their test predictions.

    Args:
        small: The cheaper run; asked first.
        large: The run that is asked where the small one isn't sure.
        output: Folder for ``cascade.json``, ``curve.csv`` and ``curve.png``; an earlier cascade there is
            replaced.
        costs: What an image costs in each; measured on this machine by default.
        wish: What the threshold is chosen by.
        runs: Folder of all runs, for names.
        device: As for ``train``; where costs are measured.
        seed: Of the bootstrap.
        watch: Follows progress.

    Raises:
        UsageError: No such run, or nothing does what is wished for.
        DataError: A run has no predictions yet, or the runs have other labels or samples.
        IntegrityError: The predictions are of other weights than the run's best ones.
    """
    watch, folder, asked = watch or Silent(), Path(output).expanduser(), costs or CascadeCosts()
    found = [
        run if isinstance(run, RunDir) else find_run(str(run), root=Path(runs)) for run in (small, large)
    ]
    if found[0].path.resolve() == found[1].path.resolve():
        raise UsageError(f"SMALL and LARGE are the same run, {found[0].path}; a cascade needs two.")
    _check_output(folder)
    labels = (_label(found[0]), _label(found[1]))
    val, test = (_pair(found, split, labels) for split in SPLITS)
    networks = [open_run(run, device=device, batch_size=None, watch=watch) for run in found]
    _check_networks(networks, (val, test))
    priced = _price(asked, found, networks, watch)
    if priced.small_ms >= priced.large_ms:
        watch.note(
            f"WARNING: the small model ({priced.small_ms:.3g} ms) is no cheaper than the large one "
            f"({priced.large_ms:.3g} ms): a cascade of them saves nothing. Were SMALL and LARGE swapped?"
        )
    plan = plan_cascade(val, test, priced, wish or Wish(), seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_curve_csv(plan.val, plan.test, folder / "curve.csv")
    write_cascade_figure(plan.val, plan.test, plan.figures["confirmed"], plan.threshold, folder / "curve.png")
    write_cascade(_to_file(plan, found, networks), folder)
    return CascadeResult(folder=folder, plan=plan, labels=labels)


def _label(run: RunDir) -> str:
    return f"{run.path.parent.name}/{run.run_id}"


def _check_output(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not is_cascade(folder):
        raise UsageError(f"-o {folder} holds other things than a cascade; name a new or empty folder.")


def _pair(runs: list[RunDir], split: str, labels: tuple[str, str]) -> Pair:
    small, large = (_read(run, split) for run in runs)
    return pair_predictions(small, large, labels=labels)


def _read(run: RunDir, split: str) -> Predictions:
    path = run.predictions(split)
    if not path.is_file():
        why = "the threshold is chosen there" if split == "val" else "the plan is confirmed there"
        raise DataError(
            f"{run.path} has no predictions on {split}, and {why}. Make them: praxiscope evaluate {run.path} "
            f"--split {split}"
        )
    found = read_predictions(path)
    if len(found.heads) > 1:
        raise UsageError(
            f"{run.path} has the heads {' and '.join(found.heads)}; a cascade answers one question. Train "
            "both runs on one of them (data.heads)."
        )
    return found


def _check_networks(networks: list[Network], pairs: tuple[Pair, ...]) -> None:
    """Compare the weights that predicted with those that will be run."""
    for pair in pairs:
        for network, table in zip(networks, (pair.small, pair.large), strict=True):
            if table.info.weights_sha256 != network.weights_sha256:
                raise IntegrityError(
                    f"The predictions of {network.source} on {table.split} are of other weights than its "
                    f"best ones now. Make them again: praxiscope evaluate {network.source} --split "
                    f"{table.split}"
                )


def _price(asked: CascadeCosts, runs: list[RunDir], networks: list[Network], watch: Watcher) -> Costs:
    if asked.profile is not None:
        small, large = (_count_passes(run) for run in runs)
        return read_costs(
            asked.profile, runs[0].path, runs[1].path, runtime=asked.runtime, passes=(small, large)
        )
    if asked.small_ms is not None and asked.large_ms is not None:
        return Costs(small_ms=asked.small_ms, large_ms=asked.large_ms, source="given by the user")
    things = "images" if networks[0].clip is None else "clips"
    watch.note(
        f"No --costs: timing both models on single {things} here; 'praxiscope profile' does it thoroughly."
    )
    small_ms, large_ms = measure_latencies(networks[0], networks[1])
    return Costs(
        small_ms=small_ms,
        large_ms=large_ms,
        source=f"median of {_TIMED} single {things} each, in turn, on this machine; the networks alone",
    )


def _count_passes(run: RunDir) -> int:
    """Return the forward passes of a sample: a clip's views, twice where mirror images are averaged in."""
    recipe = load_recipe(run.recipe)
    views = 1 if recipe.model.num_frames is None else count_views(recipe.clip)
    return 2 * views if recipe.evaluate.flip else views


def measure_latencies(small: Network, large: Network) -> tuple[float, float]:
    """Time both networks on single samples, in turn, so that foreign load meets both; medians in ms."""
    networks, seconds = (small, large), ([], [])  # type: tuple[Network, ...], tuple[list[float], ...]
    images = [_make_grey(network) for network in networks]
    for turn in range(_WARM + _TIMED):
        for network, image, taken in zip(networks, images, seconds, strict=True):
            start = time.perf_counter()
            network.predict(image)
            if turn >= _WARM:
                taken.append(time.perf_counter() - start)
    return 1000 * median(seconds[0]), 1000 * median(seconds[1])


def _make_grey(network: Network) -> npt.NDArray[np.uint8]:
    """Return one grey image, or all views of one grey clip, as the network takes them."""
    side, clip = network.transform.spec.img_size, network.clip
    axes = () if clip is None else (count_views(clip.section), clip.num_frames)
    return np.full((1, *axes, side, side, 3), 127, np.uint8)


def _to_file(plan: CascadePlan, runs: list[RunDir], networks: list[Network]) -> CascadeFile:
    members = [
        CascadeMember(run=run.path, weights_sha256=str(network.weights_sha256))
        for run, network in zip(runs, networks, strict=True)
    ]
    return CascadeFile(
        small=members[0],
        large=members[1],
        names=networks[0].names,
        temperature=plan.temperature,
        threshold=plan.threshold,
        figures={"created": datetime.now(UTC).isoformat(timespec="seconds"), **plan.figures},
    )
