"""Bake-off: which of several models, within a time box; decided on validation, tested once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.manifest import Manifest
from praxiscope.errors import DataError, EnvironmentProblem, Interrupted, Preempted, UsageError
from praxiscope.models.catalog import Family, find_card
from praxiscope.models.runtime import Precision, choose_device, choose_runtime
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.bakeoff import write_bakeoff
from praxiscope.runs.environment import mask_command
from praxiscope.runs.lock import RunLock, read_lock
from praxiscope.tournament.bench import Bench
from praxiscope.tournament.budget import BudgetClock, parse_budget
from praxiscope.tournament.contestants import Contestant, choose_contestants
from praxiscope.tournament.ledger import LEDGER_NAME, Entry, Ledger
from praxiscope.tournament.plan import Rules
from praxiscope.tournament.ranking import build_result
from praxiscope.tournament.referee import lead
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.bakeoff_trainings import Trainings
from praxiscope.workflows.packed import open_any_pack

DEFAULT_ROOT = Path("runs") / "bakeoff"
HEARTBEAT_S = 2.0
"""Seconds between heartbeats: what a kill leaves uncounted of the time spent."""


@dataclass(frozen=True, kw_only=True)
class BakeoffResult:
    """What a bake-off left behind.

    Attributes:
        folder: ledger, runs, comparison, ``bakeoff.json``, ``ranking.csv``, ``curves.png``, ``bakeoff.html``.
        content: of ``bakeoff.json``.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "bakeoff.html"


def bakeoff(  # noqa: PLR0913 - the flags of a command, all but three with a default
    models: Sequence[str],
    *,
    data: Path | str,
    budget: str,
    mode: str = "same-recipe",
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    finalists: int = 2,
    seeds: int = 3,
    max_epochs: int | None = None,
    output: Path | str | None = None,
    device: str | None = None,
    watch: Watcher | None = None,
    command: Sequence[str] = (),
) -> BakeoffResult:
    """Find out which model suits the data best, within a time box.

    Args:
        models: names of models; with ``best-recipe`` also recipes.
        data: the user's folder; nothing is written to it.
        budget: the time box: ``60m``, ``2h``, ``1h30m``.
        mode: ``same-recipe`` or ``best-recipe``, as :func:`choose_contestants` says.
        recipe: of ``same-recipe``.
        overrides: recipe keys for all.
        finalists: that are trained from several seeds.
        seeds: of each finalist.
        max_epochs: of any training; the largest of the contestants' recipes where not given.
        output: the bake-off's own folder, new or empty; ``runs/bakeoff/<UTC time>`` where not given.
        device: as for ``train``.
        watch: follows progress.
        command: the command line, for the record; secrets in it are masked.

    Raises:
        UsageError: something asked for doesn't exist, or the budget is too small.
        DataError: the data can't be used, or has no test images.
        EnvironmentProblem: the time box was full before there was anything to compare.
        Preempted, Interrupted: stopped by a signal; :func:`resume_bakeoff` goes on.
    """
    clock, watch = BudgetClock(), watch or Silent()
    budget_s = parse_budget(budget)
    for flag, number in (("--finalists", finalists), ("--seeds", seeds), ("--max-epochs", max_epochs)):
        if number is not None and number < 1:
            raise UsageError(f"{flag} is {number}; it must be 1 or more.")
    contestants = choose_contestants(models, mode=mode, recipe=recipe, overrides=overrides)
    folder = _new_folder(output)
    manifest = _read_data(Path(data), contestants, watch)
    if len(manifest.heads) > 1:
        raise UsageError(
            f"The data has the heads {' and '.join(manifest.heads)}; a bake-off ranks models by one answer. "
            "Name one column, --set 'data.heads={verb: COLUMN}', or train the models and compare them with "
            "'praxiscope compare'."
        )
    contestants = _pin_precision(contestants, device, same=mode == "same-recipe")
    recipes = [each.recipe for each in contestants]
    asked = {
        "models": list(models), "mode": mode, "recipe": recipe, "budget": budget, "budget_s": budget_s,
        "finalists": finalists, "seeds": seeds, "device": device,
        "max_epochs": max_epochs or max(each.train.epochs for each in recipes),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder, heartbeat_s=HEARTBEAT_S):
        ledger = Ledger(folder, clock)
        ledger.append(
            "begin",
            asked=asked,
            command=mask_command(command),
            contestants=[{"name": c.name, "recipe": c.recipe.model_dump(mode="json")} for c in contestants],
            data=_describe_data(manifest),
            monitor=recipes[0].train.monitor,
            monitor_mode=recipes[0].train.monitor_mode,
        )
        return _go_on(folder, ledger, clock, manifest, watch)


def resume_bakeoff(folder: Path | str | None = None, *, watch: Watcher | None = None) -> BakeoffResult:
    """Go on with a bake-off that was stopped or killed; everything asked for is known.

    The time that it has spent counts; the time since doesn't.

    Args:
        folder: the bake-off's; the newest of ``runs/bakeoff`` where not given.
        watch: follows progress.

    Raises:
        UsageError: there is no such bake-off, or its data has changed.
        RunLocked: another process is at it.
        IntegrityError: its ledger is damaged.
    """
    watch, path = watch or Silent(), _find_folder(folder)
    holder = read_lock(path)  # of a process that was killed: before the lock is taken over
    with RunLock(path, heartbeat_s=HEARTBEAT_S) as lock:
        before = Ledger(path, BudgetClock())
        begin = before.require("begin")
        spent_s = before.spent_s
        if lock.note and holder is not None:
            beaten = datetime.fromisoformat(holder.heartbeat) - datetime.fromisoformat(holder.started)
            session = (*before.select("begin"), *before.select("resumed"))[-1]
            spent_s = max(spent_s, session["spent_s"] + beaten.total_seconds())
        clock = BudgetClock(spent_s=spent_s)
        ledger = Ledger(path, clock)
        manifest = _read_data(Path(begin["data"]["root"]), _read_contestants(begin), watch)
        if manifest.fingerprint != begin["data"]["manifest_fingerprint"]:
            raise UsageError(
                f"{manifest.root} isn't the data that {path} began with: samples, labels or splits have "
                "changed. Bring them back, or start a new bake-off without --resume."
            )
        if not ledger.find("done"):
            ledger.append("resumed")
        return _go_on(path, ledger, clock, manifest, watch)


def _go_on(
    folder: Path, ledger: Ledger, clock: BudgetClock, manifest: Manifest, watch: Watcher
) -> BakeoffResult:
    begin = ledger.require("begin")
    asked, contestants = begin["asked"], _read_contestants(begin)
    num_test = manifest.usable("test").num_rows
    bench = Bench(
        ledger=ledger,
        clock=clock,
        actions=Trainings(
            folder=folder, ledger=ledger, contestants=contestants, manifest=manifest, watch=watch
        ),
        rules=Rules(
            budget_s=asked["budget_s"],
            finalists=asked["finalists"],
            seeds=asked["seeds"],
            max_epochs=asked["max_epochs"],
            verdict_s=_estimate_verdict_s(num_test),
        ),
        contestants=[each.name for each in contestants],
        seed=contestants[0].recipe.seed,
        mode=begin["monitor_mode"],
        tell=watch.note,
    )
    with _recording_stop(folder, ledger):
        lead(bench)
    content = build_result(ledger)
    write_bakeoff(content, folder)
    return BakeoffResult(folder=folder, content=content)


@contextlib.contextmanager
def _recording_stop(folder: Path, ledger: Ledger) -> Iterator[None]:
    """Count the time until a stop, and say how to go on."""
    try:
        yield
    except BaseException as problem:
        with contextlib.suppress(EnvironmentProblem):  # a full disk: the heartbeat tells the time instead
            ledger.append("stopped", reason=type(problem).__name__)
        if isinstance(problem, Preempted | Interrupted):
            raise type(problem)(
                f"Stopped and saved. To go on: praxiscope bakeoff --resume {folder}"
            ) from problem
        raise


def _estimate_verdict_s(num_test: int) -> float:
    """Return the seconds kept for comparing the finalists and for the pages."""
    return 15.0 + num_test / 500


def _new_folder(output: Path | str | None) -> Path:
    if output is None:
        return DEFAULT_ROOT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = Path(output)
    if (folder / LEDGER_NAME).exists():
        raise UsageError(
            f"--output {folder} holds a bake-off. Go on with it: praxiscope bakeoff --resume {folder}; or "
            "choose another folder for a new one."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is not an empty folder; choose a new one for this bake-off.")
    return folder


def _find_folder(folder: Path | str | None) -> Path:
    if folder is not None:
        path = Path(folder)
        if not (path / LEDGER_NAME).is_file():
            raise UsageError(
                f"--resume {path}: there is no bake-off ({LEDGER_NAME}) in it; name the folder that "
                "`praxiscope bakeoff` printed."
            )
        return path
    found = sorted(DEFAULT_ROOT.glob(f"*/{LEDGER_NAME}"))
    if not found:
        raise UsageError(f"--resume: there is no bake-off below {DEFAULT_ROOT}; name its folder.")
    return found[-1].parent


def _read_contestants(begin: Entry) -> tuple[Contestant, ...]:
    return tuple(
        Contestant(name=each["name"], recipe=load_recipe(each["recipe"])) for each in begin["contestants"]
    )


def _read_data(data: Path, contestants: Sequence[Contestant], watch: Watcher) -> Manifest:
    """Look at the data once for all: what is found out about files, and a pack, are in the cache then."""
    recipe: Recipe = contestants[0].recipe  # the data section is the same for all
    manifest = build_recipe_manifest(data, recipe, progress=watch.phase)
    for finding in manifest.findings:
        if finding.severity == "warning":
            watch.note(f"data: {finding.message}")
    manifest.require_usable()
    for split in ("train", "val", "test"):
        if manifest.usable(split).num_rows == 0:
            raise DataError(
                f"{manifest.root} gives no sample for '{split}', and a bake-off needs training, validation "
                f"and test images. Give it a folder '{split}', or, where data.{split}_fraction is 0, set it "
                "above 0 to have one cut from the data."
            )
    if recipe.data.pack is not None:
        with open_any_pack(recipe, manifest, progress=watch.phase):
            pass
    return manifest


def _pin_precision(
    contestants: Sequence[Contestant], device: str | None, *, same: bool
) -> tuple[Contestant, ...]:
    """Settle each contestant's precision once: measured anew by each training, it might differ between them.

    Args:
        contestants: as chosen.
        device: as asked for.
        same: one precision for all; float32 where what is best for one family isn't for another.
    """
    where = choose_device(device)
    measured: dict[tuple[str, Family], Precision] = {}
    precisions: list[Precision] = []
    for each in contestants:
        asked, family = each.recipe.train.precision, find_card(each.recipe.model.name).family
        if (asked, family) not in measured:
            runtime = choose_runtime(where, precision=asked, channels_last="auto", family=family)
            measured[asked, family] = runtime.precision
        precisions.append(measured[asked, family])
    if same and len(set(precisions)) > 1:
        precisions = ["fp32"] * len(precisions)
    return tuple(
        Contestant(
            name=each.name,
            recipe=load_recipe(each.recipe.model_dump(mode="json"), {"train.precision": precision}),
        )
        for each, precision in zip(contestants, precisions, strict=True)
    )


def _describe_data(manifest: Manifest) -> dict[str, Any]:
    counts = {f"num_{split}": manifest.usable(split).num_rows for split in ("train", "val", "test")}
    return {
        "root": str(manifest.root),
        **counts,
        "num_classes": max(map(len, manifest.heads.values())),
        "manifest_fingerprint": manifest.fingerprint,
    }
