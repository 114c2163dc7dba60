"""Tune: search recipe keys on validation; every trial is an ordinary run, the test split is never read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.cluster.script import write_script
from praxiscope.cluster.slurm import submit_script
from praxiscope.cluster.spec import Array, Environment, JobSpec, Resources
from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.errors import DataError, Interrupted, Preempted, UsageError, did_you_mean
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.tuning import write_study
from praxiscope.runs import atomic
from praxiscope.runs.environment import count_cores
from praxiscope.runs.rundir import RunDir
from praxiscope.tournament.budget import parse_budget
from praxiscope.training.heads import check_monitor
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Silent, Watcher
from praxiscope.tuning.plan import StudyPlan, check_pruner, check_sampler, settle_trials
from praxiscope.tuning.result import build_result
from praxiscope.tuning.space import apply_proposal, count_combinations, parse_space
from praxiscope.tuning.study import Study
from praxiscope.workflows.tune_trials import run_trials

PLAN_NAME = "study.json"
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What a study left behind.

    Attributes:
        folder: journal, trials, ``tune.json``, ``best.yaml``, ``trials.csv``, pictures, ``index.html``.
        content: of ``tune.json``.
    """

    folder: Path
    content: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "index.html"

    @property
    def best(self) -> Path:
        """The best trial's recipe; absent while no trial has finished."""
        return self.folder / "best.yaml"


def tune(  # noqa: PLR0913 - the flags of a command, all but three with a default
    recipe: Recipe | str,
    *,
    data: Path | str,
    space: Sequence[str],
    trials: int | None = None,
    timeout: str | None = None,
    metric: str | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    seed: int = 0,
    jobs: int = 1,
    name: str | None = None,
    output: Path | str = "runs",
    device: str | None = None,
    watch: Watcher | None = None,
) -> TuneResult:
    """Search recipe keys for the best figure on validation.

    Args:
        recipe: what every trial changes.
        data: the user's folder; nothing is written to it.
        space: ``lr=loguniform(1e-5,1e-3)``, ``num_frames=4,8,16`` ...
        trials: in all; 20, or all combinations of a grid, where not given.
        timeout: ``2h``; trainings are then stopped at the end of their epoch and can be gone on with.
        metric: a figure of validation; the recipe's ``train.monitor`` where not given.
        sampler: ``tpe``, ``random`` or ``grid``.
        pruner: ``median``, ``hyperband`` or ``none``.
        seed: of the proposals.
        jobs: processes on this machine.
        name: of the study; recipe and time where not given.
        output: folder of all runs; the study lies in ``tune/<name>`` there.
        device: as for ``train``.
        watch: follows progress.

    Raises:
        UsageError: something asked for doesn't exist, or the first trials all failed.
        DataError: the data can't be used.
        Preempted, Interrupted: stopped by a signal after saving; :func:`resume_study` goes on.
    """
    watch = watch or Silent()
    check_session(jobs=jobs, timeout=timeout)  # before there is a study that would have to be deleted
    folder, plan = prepare_study(
        recipe, data=data, space=space, trials=trials, metric=metric, sampler=sampler, pruner=pruner,
        seed=seed, name=name, output=output, device=device, watch=watch,
    )  # fmt: skip
    return run_study(folder, plan, jobs=jobs, timeout=timeout, watch=watch)


def prepare_study(  # noqa: PLR0913 - as tune
    recipe: Recipe | str,
    *,
    data: Path | str,
    space: Sequence[str],
    trials: int | None,
    metric: str | None,
    sampler: str,
    pruner: str,
    seed: int,
    name: str | None,
    output: Path | str,
    device: str | None,
    watch: Watcher,
) -> tuple[Path, StudyPlan]:
    """Check what was asked for and make the study's folder, before any trial.

    Raises:
        UsageError, DataError: as :func:`tune`.
    """
    base = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if metric is not None:
        base = load_recipe(base.model_dump(mode="json"), {"train.monitor": metric})
    parsed = parse_space(space, base)
    chosen = check_sampler(sampler, parsed, trials)
    if chosen != sampler:
        watch.note(f"There are {count_combinations(parsed)} combinations: each is tried once (grid).")
    plan = StudyPlan(
        name=name or f"{base.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        recipe=base,
        space=parsed,
        data=str(Path(data).absolute()),
        metric=base.train.monitor,
        mode=base.train.monitor_mode,
        trials=settle_trials(trials, chosen, parsed),
        sampler=chosen,
        pruner=check_pruner(pruner),
        seed=seed,
        device=device,
    )
    folder = _name_folder(output, plan.name)
    if (folder / PLAN_NAME).exists():
        raise UsageError(
            f"There is a study '{plan.name}' below {folder.parent}. Go on with it: praxiscope tune --resume "
            f"{plan.name}; or give a new one another --name."
        )
    _check_data(plan, watch)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / PLAN_NAME, plan.to_dict())
    return folder, plan


def resume_study(
    name: str,
    *,
    output: Path | str = "runs",
    timeout: str | None = None,
    jobs: int = 1,
    watch: Watcher | None = None,
) -> TuneResult:
    """Go on with a study, or help another process with it; everything asked for is known.

    Args:
        name: of the study.
        output: folder of all runs.
        timeout: as for :func:`tune`; the time of earlier calls doesn't count.
        jobs: processes on this machine.
        watch: follows progress.

    Raises:
        UsageError: there is no such study.
    """
    folder, plan = open_study(name, output)
    return run_study(folder, plan, jobs=jobs, timeout=timeout, watch=watch or Silent())


def show_study(name: str, *, output: Path | str = "runs") -> TuneResult:
    """Make a study's page and ``best.yaml`` anew from its journal; nothing is trained.

    Raises:
        UsageError: there is no such study.
    """
    folder, plan = open_study(name, output)
    return _conclude(folder, plan, Study(folder, plan))


def open_study(name: str, output: Path | str) -> tuple[Path, StudyPlan]:
    """Return a study's folder and plan.

    Raises:
        UsageError: there is no such study; names those that there are.
    """
    folder = _name_folder(output, Path(name).name if (Path(name) / PLAN_NAME).is_file() else name)
    if (Path(name) / PLAN_NAME).is_file():
        folder = Path(name)
    if not (folder / PLAN_NAME).is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{PLAN_NAME}"))
        there = f"Studies there: {', '.join(known)}." if known else "There is none yet."
        raise UsageError(f"No study '{name}' below {folder.parent}.{did_you_mean(name, known)} {there}")
    return folder, StudyPlan.from_dict(atomic.read_json(folder / PLAN_NAME))


def submit_study(
    folder: Path, plan: StudyPlan, resources: Resources, environment: Environment, *, jobs: int, dry_run: bool
) -> tuple[Path, int | None]:
    """Write an array of workers for Slurm, each of which goes on with the study, and submit it.

    Args:
        folder: of the study, on a file system that the nodes share.
        plan: what was asked for.
        resources: of one worker.
        environment: what makes ``praxiscope`` a command on the node.
        jobs: workers.
        dry_run: write the file only.

    Returns:
        The sbatch file, and the job's id, None after a dry run.

    Raises:
        UsageError: something that Slurm wouldn't take.
        EnvironmentProblem: no sbatch, or Slurm refuses; the file is written.
    """
    spec = JobSpec(
        name=f"tune-{plan.name}"[:64],
        folder=folder.absolute() / "slurm",
        directory=Path.cwd(),
        command=("tune", "--resume", str(folder.absolute())),
        resources=resources,
        environment=environment,
        array=Array(size=jobs),
        title=f"Workers of the study {plan.name}: each takes the next trial until there are {plan.trials}.",
        script_name="workers",
    )
    script = write_script(spec)
    return script, None if dry_run else submit_script(script)


def _name_folder(output: Path | str, name: str) -> Path:
    if not name or Path(name).name != name or name in {".", ".."}:
        raise UsageError(f"--name '{name}' can't be a folder's name; use letters, digits, '.', '-' and '_'.")
    return Path(output) / "tune" / name


def _check_data(plan: StudyPlan, watch: Watcher) -> None:
    """Look at the data once before there is a folder: every trial would stumble over it."""
    recipe = plan.recipe
    manifest = build_recipe_manifest(Path(plan.data), recipe, progress=watch.phase)
    manifest.require_usable()
    for split in ("train", "val"):
        if manifest.usable(split).num_rows == 0:
            raise DataError(
                f"{manifest.root} gives no sample for '{split}'; trials are compared on validation, so both "
                "are needed. Set data.val_fraction above 0 to have it cut from train."
            )
    check_monitor(recipe, build_sample_set(manifest, "train").heads)


def check_session(*, jobs: int, timeout: str | None) -> float | None:
    """Return the seconds of ``--timeout``, None without one.

    Raises:
        UsageError: fewer than one process, or a time that is none.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; it must be 1 or more.")
    return None if timeout is None else parse_budget(timeout, flag="--timeout")


def run_study(folder: Path, plan: StudyPlan, *, jobs: int, timeout: str | None, watch: Watcher) -> TuneResult:
    """Train until a study has all its trials; as :func:`tune`, for one that was prepared."""
    seconds = check_session(jobs=jobs, timeout=timeout)
    deadline = None if seconds is None else time.monotonic() + seconds
    study = Study(folder, plan)
    broken: list[str] = []
    try:
        if jobs == 1:
            run_trials(folder, plan, study, deadline=deadline, watch=watch)
        else:
            broken = _run_workers(folder, jobs=jobs, timeout=timeout, watch=watch)
    except (Preempted, Interrupted) as stop:
        _conclude(folder, plan, study)
        raise type(stop)(f"Stopped and saved. To go on: {_describe_resume(folder)}") from stop
    result = _conclude(folder, plan, study)
    if broken:
        _tell_broken(broken, result, jobs=jobs, watch=watch)
    return result


def _tell_broken(logs: Sequence[str], result: TuneResult, *, jobs: int, watch: Watcher) -> None:
    """Say which workers ended with an error; it is one only where trials are left for want of them.

    Raises:
        UsageError: names the logs.
    """
    told = f"{len(logs)} of {jobs} workers ended with an error; see {', '.join(logs)}."
    states = [trial["state"] for trial in result.content["trials"]]
    if "complete" in states and len(states) - states.count("unfinished") == result.content["asked_trials"]:
        watch.note(f"{told} The others did their trials.")
        return
    raise UsageError(f"{told} To go on: {_describe_resume(result.folder)}")


def _describe_resume(folder: Path) -> str:
    return f"praxiscope tune --resume {folder}"


def _run_workers(folder: Path, *, jobs: int, timeout: str | None, watch: Watcher) -> list[str]:
    """Start processes that go on with the study, wait for them, and return the logs of those that broke.

    Raises:
        Preempted, Interrupted: a signal, which was passed on to the workers.
    """
    command = [sys.executable, "-m", "praxiscope", "tune", "--resume", str(folder)]
    command += [] if timeout is None else ["--timeout", timeout]
    logs = folder / "workers"
    logs.mkdir(exist_ok=True)
    # Each worker would take all cores, and torch's threads that wait for each other are many times slower.
    threads = str(max(1, count_cores() // jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    workers = []
    for number in range(jobs):
        with (logs / f"{number}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **_OWN_GROUP
            )
            workers.append(process)
    watch.note(f"{jobs} workers; their output is in {logs}")
    with StopFlag() as stop:
        codes = _wait_for(workers, stop)
    if stop.requested:
        raise stop.as_error("by all workers")
    if 130 in codes:
        raise Interrupted("A worker was stopped by Ctrl-C.")
    if 75 in codes:
        raise Preempted("A worker was stopped by a signal.")
    return [str(logs / f"{number}.log") for number, code in enumerate(codes) if code]


# A terminal's Ctrl-C reaches the whole group: workers get it from us instead, once. Windows knows the first
# way only.
_OWN_GROUP: dict[str, Any] = {} if sys.platform == "win32" else {"process_group": 0}


def _wait_for(workers: Sequence[subprocess.Popen[bytes]], stop: StopFlag) -> list[int]:
    """Return the exit codes of all workers; pass a signal on to them, and leave none behind."""
    told = False
    try:
        while any(worker.poll() is None for worker in workers):
            if stop.requested and not told:
                told = True
                for worker in workers if _OWN_GROUP else ():
                    worker.send_signal(stop.number)
            time.sleep(_POLL_S)
    finally:  # a second Ctrl-C: trials are gone on with from their last checkpoint
        for worker in workers:
            worker.kill()
    return [worker.wait() for worker in workers]


def _conclude(folder: Path, plan: StudyPlan, study: Study) -> TuneResult:
    """Write what is known so far."""
    content = build_result(plan, study, num_val=_count_val(folder, study))
    if content["best"] is not None:
        proposal = study.read_proposal(content["best"])
        best = apply_proposal(plan.recipe, plan.space, proposal)
        best = load_recipe({**best.model_dump(mode="json"), "name": f"{plan.recipe.name[:58]}-tuned"})
        header = (
            f"# The best of study {plan.name}: trial {content['best']}, {plan.metric} "
            f"{content['trials'][content['best']]['value']:.4f}.\n"
            "# Chosen on validation: train it from several seeds before believing the figure.\n"
        )
        atomic.write_text(folder / "best.yaml", header + dump_recipe(best))
    write_study(content, folder)
    return TuneResult(folder=folder, content=content)


def _count_val(folder: Path, study: Study) -> int | None:
    for trial in study.trials:
        if path := trial.user_attrs.get("run"):
            return int(RunDir.open(folder / path).read_run_json()["data"]["num_val"])
    return None
