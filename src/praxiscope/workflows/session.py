"""One session of training in a run folder: from the latest checkpoint to the end, or to a stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from praxiscope.data.loader import SampleFailed
from praxiscope.data.manifest import Manifest
from praxiscope.errors import Diverged, Interrupted, PraxiscopeError, Preempted
from praxiscope.models.build import BuiltModel
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen
from praxiscope.models.runtime import Runtime
from praxiscope.models.world import ALONE, World
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.figures import write_curves
from praxiscope.reporting.learning import describe_run
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.environment import describe_environment
from praxiscope.runs.lock import RunLock
from praxiscope.runs.rundir import RunDir, RunState
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.job import Job, Row
from praxiscope.training.log import EpochLog
from praxiscope.training.loop import fit
from praxiscope.training.session import Setting, open_job, restore_job
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState
from praxiscope.training.trackers.follow import Followers
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.notices import describe_surprises
from praxiscope.workflows.packed import open_recipe_pack, record_pack
from praxiscope.workflows.record import describe_extensions, describe_session

_STATES: tuple[tuple[type[BaseException], RunState], ...] = (
    (Preempted, "preempted"),
    (Interrupted, "interrupted"),
    (KeyboardInterrupt, "interrupted"),
    (Diverged, "diverged"),
)


def run_session(  # noqa: PLR0913 - the parts of a session, and what ties it to its caller
    run: RunDir,
    recipe: Recipe,
    manifest: Manifest,
    built: BuiltModel,
    runtime: Runtime,
    *,
    lock: RunLock,
    watch: Watcher,
    adopt: Callable[[], None] = lambda: None,
    world: World = ALONE,
) -> RunDir:
    """Train until the recipe's last epoch; the caller holds the run's lock.

    Of several ranks, this is the first's; the others :func:`join_session`.

    Args:
        run: where to.
        recipe: what was asked for.
        manifest: the samples.
        built: the network.
        runtime: where and how it computes.
        lock: of ``run``.
        watch: follows progress.
        adopt: called once the checkpoint has proved to fit: a resume that doesn't leaves the run as it was.
        world: the ranks that train together.

    Returns:
        ``run``, with its curves drawn.

    Raises:
        PraxiscopeError: as ``train`` says; ``status.json`` tells which.
    """
    without = _share_quarantine(run, world)
    started = datetime.now(UTC)
    # Signals before anything slow: a stop during the set-up is not lost either.
    with StopFlag() as stop, EpochLog(run, recipe) as log, Followers(run, recipe) as followers:

        def log_row(row: Row) -> None:
            log.row(row)
            followers.row(row)

        def note(text: str) -> None:
            log.note(text)
            watch.note(text)

        setting = Setting(
            recipe=recipe, manifest=manifest, run=run, built=built, runtime=runtime,
            log=log_row, phase=watch.phase, without=without, world=world,
            note=note, announce=lambda report: _record_features(run, report, note), log_layers=log.layers,
        )  # fmt: skip
        if lock.note:
            note(lock.note)
        note(_describe_machine(run, runtime))
        _note_ranks(recipe, world, note)
        note(_describe_begin(built, runtime, resumed=bool(read_manifests(run.checkpoints)[0])))
        if without:
            note(
                f"Without {len(without)} samples that could not be read before: {', '.join(sorted(without))}"
            )
        with (
            open_recipe_pack(
                recipe, manifest, built, splits=("train", "val"), watch=watch, note=note
            ) as pack,
            open_job(replace(setting, pack=pack)) as job,
        ):
            if pack is not None:
                record_pack(run, pack, manifest, note)
            state = restore_job(job, run.checkpoints, note)
            adopt()
            if state.step == 0:
                for sentence in describe_surprises(recipe, manifest, built):
                    note(sentence)
            log.begin(after_step=state.step)
            followers.open(note)
            if state.joints:
                run.update_run_json({"extensions": describe_extensions(run, state.joints)})
            run.write_status("running", step=state.step, epoch=state.epoch)
            frozen = fingerprint_frozen(job.module)
            try:
                fit(replace(job, save=_guard(job, lock)), state, stop=stop, watch=watch)
                assert_frozen_unchanged(job.module, frozen)
            except BaseException as problem:
                _record_stop(run, job, state, started, problem)
                _draw_curves(run)
                raise
            _record_end(run, recipe, state, started, note)
    return run


@contextlib.contextmanager
def hold_run(run: RunDir, world: World) -> Iterator[RunLock | None]:
    """Hold a run's lock on the first rank, for all; the others get None.

    Raises:
        RunLocked: Another process holds it; on all ranks.
    """
    with contextlib.ExitStack() as held:
        with world.together():
            lock = held.enter_context(run.lock()) if world.is_first else None
        yield lock


def join_session(
    run: RunDir, recipe: Recipe, manifest: Manifest, built: BuiltModel, runtime: Runtime, *, world: World
) -> RunDir:
    """Train as one of several ranks that is not the first: nothing is written, nothing said.

    Args and errors are those of :func:`run_session`.
    """
    silent = Silent()
    setting = Setting(
        recipe=recipe, manifest=manifest, run=run, built=built, runtime=runtime, world=world,
        log=lambda _row: None, phase=silent.phase, without=_share_quarantine(run, world),
    )  # fmt: skip
    with (
        StopFlag() as stop,
        open_recipe_pack(recipe, manifest, built, splits=("train", "val"), watch=silent) as pack,
        open_job(replace(setting, pack=pack)) as job,
    ):
        state = restore_job(job, run.checkpoints, silent.note)
        frozen = fingerprint_frozen(job.module)
        fit(job, state, stop=stop, watch=silent)
        assert_frozen_unchanged(job.module, frozen)
    return run


def _share_quarantine(run: RunDir, world: World) -> frozenset[str]:
    return world.from_first(lambda: frozenset(run.read_run_json().get("quarantined", [])))


def _note_ranks(recipe: Recipe, world: World, note: Callable[[str], None]) -> None:
    if world.size == 1:
        return
    kind = "FSDP2, a part of the network each" if recipe.train.parallel == "fsdp" else "DDP, a copy each"
    batch = recipe.train.batch_size
    note(
        f"{world.size} ranks ({kind}): {batch} samples each, {batch * world.size} a batch; the learning rate "
        "is as the recipe says"
    )


def _record_features(run: RunDir, report: FeaturesReport, note: Callable[[str], None]) -> None:
    for sentence in report.sentences:
        note(sentence)
    known = run.read_run_json().get("notes", [])
    notes = [*known, *(sentence for sentence in report.sentences if sentence not in known)]
    run.update_run_json({"features": report.describe(), "notes": notes})


def _guard(job: Job, lock: RunLock) -> Callable[[TrainState, bool, bool], None]:
    """Return the job's ``save``, refused to a process that slept so long that another took its place."""

    def save(state: TrainState, is_best: bool, epoch_ended: bool) -> None:
        lock.check()
        job.save(state, is_best, epoch_ended)

    return save


def _describe_machine(run: RunDir, runtime: Runtime) -> str:
    """Return what this session runs on: another one of the same run may have run elsewhere."""
    machine = describe_environment(run.path)
    memory = "" if machine["memory_mib"] is None else f", {machine['memory_mib'] / 1024:.1f} GiB memory"
    gpu = "" if runtime.device.type == "cpu" else f"{runtime.describe()['device_name']}; "
    return (
        f"Hardware: {gpu}{machine['cpu']}, {machine['cores']} of "
        f"{machine['cores_total']} cores, {machine['threads']} threads{memory}; {machine['os']}; "
        f"Python {machine['python']}, torch {machine['torch']}, praxiscope {machine['praxiscope']}"
    )


def _describe_begin(built: BuiltModel, runtime: Runtime, *, resumed: bool) -> str:
    layout = "channels-last" if runtime.channels_last else "contiguous"
    start = "weights of the run's checkpoint" if resumed else "from scratch"
    weights = start if built.loaded is None else str(built.loaded)
    return (
        f"{built.card.name}, {built.num_parameters / 1e6:.2f} M parameters, {built.img_size} px, {weights}; "
        f"{runtime.device}, {runtime.precision} ({runtime.reason}), {layout}"
    )


def _record_stop(run: RunDir, job: Job, state: TrainState, started: datetime, problem: BaseException) -> None:
    kind: RunState = next((word for error, word in _STATES if isinstance(problem, error)), "failed")
    message = str(problem) if isinstance(problem, PraxiscopeError) else type(problem).__name__
    run.write_status(kind, step=state.step, epoch=state.epoch, message=message)
    changes: dict[str, Any] = {
        "time": describe_session(run, started, kind, state.train_s),
        "best": _describe_best(job.recipe, state),
    }
    if isinstance(problem, SampleFailed):
        known = run.read_run_json().get("quarantined", [])
        changes["quarantined"] = sorted({*known, *problem.sample_ids})
    run.update_run_json(changes)


def _record_end(
    run: RunDir, recipe: Recipe, state: TrainState, started: datetime, note: Callable[[str], None]
) -> None:
    rows = run.read_metrics()
    _draw_curves(run)
    run.update_run_json(
        {"time": describe_session(run, started, "done", state.train_s), "best": _describe_best(recipe, state)}
    )
    run.write_status("done", step=state.step, epoch=state.epoch)
    findings = describe_run(rows, recipe, run.read_run_json())
    run.update_run_json({"learning": asdict(findings)})
    for sentence in findings.sentences:
        note(sentence)


def _draw_curves(run: RunDir) -> None:
    if rows := run.read_metrics():
        write_curves(rows, run.curves, extensions=run.read_run_json().get("extensions", ()))


def _describe_best(recipe: Recipe, state: TrainState) -> dict[str, object] | None:
    if state.best_value is None:
        return None
    return {"epoch": state.best_epoch, "monitor": recipe.train.monitor, "value": state.best_value}
