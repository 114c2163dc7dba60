"""``praxiscope tune``: search recipe keys on validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.arguments import LATEST, collect_overrides
from praxiscope.cli.options import Device
from praxiscope.errors import UsageError

if TYPE_CHECKING:
    from praxiscope.workflows.tune import TuneResult

_SHOWN_TRIALS = 10
_SLURM: Any = {"rich_help_panel": "Slurm"}


# What --resume and --show may be given besides: where the study lies, and how this session works.
_SESSION = frozenset({"resume", "show", "output", "jobs", "timeout"})


def tune(  # noqa: PLR0913, PLR0917 - one parameter a flag
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A built-in recipe or a .yaml file.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "--datapath", metavar="DIR", help="The data folder.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES ...",
            help="loguniform(a,b), uniform(a,b), int(a,b), logint(a,b), or a list a,b,c.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Trials in all; default 20, of a grid all.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after 2h, 90m, 1h30m; --resume goes on.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Figure of validation; default: the recipe's monitor.")
    ] = None,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="tpe, random or grid.")] = "tpe",
    pruner: Annotated[
        str, typer.Option(metavar="NAME", help="Ends hopeless trials: median, hyperband or none.")
    ] = "median",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the proposals.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Processes on this machine.")] = 1,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the study.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A recipe key for all trials.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")] = Path(
        "runs"
    ),
    resume: Annotated[
        str | None, typer.Option(metavar="NAME", help="Go on with a study, or help another process with it.")
    ] = None,
    show: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a study's page anew; train nothing.")
    ] = None,
    device: Device = None,
    slurm: Annotated[  # noqa: ARG001 - read from what was given, with the options that need it
        bool, typer.Option("--slurm", help="Let an array of --jobs Slurm jobs do the trials.", **_SLURM)
    ] = False,
    time: Annotated[
        str | None,
        typer.Option("--time", "-t", metavar="T", help="Limit of one session: 24:00:00.", **_SLURM),
    ] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", "-p", metavar="NAME", help="Queue.", **_SLURM)
    ] = None,
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="N", help="GPUs of a worker: N or type:N.", **_SLURM)
    ] = "0",
    cpus: Annotated[
        int, typer.Option("--cpus-per-task", "-c", metavar="N", help="Cores of a worker.", **_SLURM)
    ] = 4,
    mem: Annotated[str | None, typer.Option("--mem", metavar="M", help="Memory: 32G.", **_SLURM)] = None,
    modules: Annotated[
        list[str] | None, typer.Option("--module", metavar="NAME", help="Module to load.", **_SLURM)
    ] = None,
    venv: Annotated[
        Path | None, typer.Option("--venv", metavar="DIR", help="Virtual environment.", **_SLURM)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --slurm: write the file, submit nothing.", **_SLURM)
    ] = False,
) -> None:
    """Search recipe keys for the best figure on validation; each trial is an ordinary run."""
    from praxiscope.cli.display import open_display
    from praxiscope.cli.submit_command import find_venv
    from praxiscope.cluster.spec import Environment, Resources
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows import tune as study

    _refuse_contradictions(context)
    slurm_job = None
    if time is not None:
        resources = Resources(time=time, gpus=gpus, cpus=cpus, memory=mem, partition=partition)
        if resources.processes > 1:
            raise UsageError(
                f"--gpus {gpus}: a worker trains in one process, on one GPU. Ask for --gpus 1, and for more "
                "workers with --jobs."
            )
        slurm_job = (
            resources,
            Environment(
                modules=tuple(modules or ()), venv=venv.absolute() if venv is not None else find_venv()
            ),
        )
    study.check_session(jobs=jobs, timeout=timeout)
    if show is not None:
        _print_result(study.show_study(show, output=output))
        return
    if resume is None and (recipe is None or data is None or not space):
        raise UsageError(
            "A study needs RECIPE, --data DIR and --space KEY=VALUES, e.g. --space "
            "'lr=loguniform(1e-5,1e-3)'; or --resume NAME, or --show NAME."
        )
    with open_display() as display:
        if resume is None:
            assert recipe is not None and data is not None and space  # noqa: PT018 - refused above
            folder, plan = study.prepare_study(
                load_recipe(recipe, collect_overrides({}, settings or ())), data=data, space=space,
                trials=trials, metric=metric, sampler=sampler, pruner=pruner, seed=seed, name=name,
                output=output, device=device, watch=display,
            )  # fmt: skip
        else:
            folder, plan = study.open_study(resume, output)
        if slurm_job is None:
            _print_result(study.run_study(folder, plan, jobs=jobs, timeout=timeout, watch=display))
            return
    script, job = study.submit_study(folder, plan, *slurm_job, jobs=jobs, dry_run=dry_run)
    typer.echo(f"Script: {script}")
    typer.echo(
        f"Not submitted (--dry-run). To do so: sbatch {script}"
        if job is None
        else f"Job: {job}, {jobs} workers"
    )
    typer.echo(f"Next: praxiscope tune --show {folder}")


def _refuse_contradictions(context: typer.Context) -> None:
    """Refuse flags that would be left unread.

    Raises:
        UsageError: Names them.
    """
    given = {
        each.name: each.opts[0]
        for each in context.command.params
        if each.name is not None and _is_typed(context, each.name)
    }
    of_slurm = {
        each.name for each in context.command.params if getattr(each, "rich_help_panel", None) == "Slurm"
    }
    known = given.keys() - _SESSION - of_slurm
    if {"resume", "show"} & given.keys() and known:
        raise UsageError(
            "--resume and --show take what was asked for at the start; leave the other flags out: "
            f"{', '.join(given[name] for name in given if name in known)}."
        )
    if context.params["resume"] == LATEST:
        raise UsageError("--resume: which study? Its name is the folder's below <output>/tune.")
    if "slurm" in given:
        if "time" not in given or {"show", "timeout"} & given.keys():
            raise UsageError("--slurm needs --time (24:00:00) and takes no --timeout or --show.")
    elif unread := [given[name] for name in given if name in of_slurm]:
        raise UsageError(f"{', '.join(unread)}: for --slurm only; add it, or leave them out.")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _print_result(result: TuneResult) -> None:
    typer.echo(format_trials(result.content))
    typer.echo(result.content["selection"]["sentence"])
    if result.content["best"] is not None:
        typer.echo(f"Best: {result.best}")
    typer.echo(f"Page: {result.page}")


def format_trials(content: Mapping[str, Any]) -> str:
    """Return the best trials as a table, with the counts at its foot."""
    sign = -1 if content["mode"] == "max" else 1
    known = [trial for trial in content["trials"] if trial["value"] is not None]
    ranked = sorted(known, key=lambda t: (t["state"] != "complete", sign * t["value"], t["number"]))
    lines = [f"trial  {content['metric']:>14}  epochs  state       values"]
    for trial in ranked[:_SHOWN_TRIALS]:
        values = " ".join(f"{key}={_show(value)}" for key, value in trial["params"].items())
        lines.append(
            f"{trial['number']:>5}  {trial['value']:>14.4f}  {trial['epochs']:>6}  {trial['state']:<10}  "
            f"{values}"
        )
    states = [trial["state"] for trial in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"{len(states)} of {content['asked_trials']} trials: {counts or 'none'}.")
    return "\n".join(lines)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
