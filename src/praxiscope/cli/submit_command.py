"""``praxiscope submit``: a training as a Slurm job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.arguments import normalize_arguments

if TYPE_CHECKING:
    from praxiscope.recipe.schema import Recipe
    from praxiscope.workflows.submit import Submitted

SETTINGS = {"allow_extra_args": True}
"""What stands behind ``--`` is for ``praxiscope train``."""


def _flag(*names: str, metavar: str | None = None, text: str, panel: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


_SLURM, _NODE, _ARRAY, _JOB = "Resources", "Environment on the node", "Arrays", "Job"
# What `train` may not be told behind `--`, and why.
_TAKEN = {
    "recipe": "the recipe is named before it", "data": "--data stands before it",
    "output": "--output stands before it", "resume": "a job finds its own run",
    "run": "a job finds its own run",
}  # fmt: skip


def submit(  # noqa: PLR0913, PLR0917 - one parameter a flag
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A built-in recipe or a .yaml file.")],
    data: Annotated[
        Path,
        _flag(
            "--data", "--datapath", metavar="DIR", text="The data folder, as the node sees it.", panel=_JOB
        ),
    ],
    time: Annotated[
        str,
        _flag("--time", "-t", metavar="T", text="Limit of one session: 24:00:00, 2-12, 90.", panel=_SLURM),
    ],
    partition: Annotated[
        str | None, _flag("--partition", "-p", metavar="NAME", text="Queue.", panel=_SLURM)
    ] = None,
    gpus: Annotated[
        str, _flag("--gpus", metavar="N", text="GPUs of each node: 1, a100:2; 0 for none.", panel=_SLURM)
    ] = "1",
    nodes: Annotated[int, _flag("--nodes", "-N", metavar="N", text="Machines.", panel=_SLURM)] = 1,
    cpus: Annotated[
        int, _flag("--cpus-per-task", "-c", metavar="N", text="Cores of each node.", panel=_SLURM)
    ] = 4,
    mem: Annotated[
        str | None, _flag("--mem", metavar="SIZE", text="Memory of each node: 32G.", panel=_SLURM)
    ] = None,
    account: Annotated[
        str | None, _flag("--account", "-A", metavar="NAME", text="Who pays.", panel=_SLURM)
    ] = None,
    qos: Annotated[
        str | None, _flag("--qos", metavar="NAME", text="Quality of service.", panel=_SLURM)
    ] = None,
    constraint: Annotated[
        str | None,
        _flag("--constraint", "-C", metavar="WHAT", text="Features of a node: 'a100|h100'.", panel=_SLURM),
    ] = None,
    exclusive: Annotated[
        bool, _flag("--exclusive", text="Share the nodes with nobody.", panel=_SLURM)
    ] = False,
    mail_user: Annotated[
        str | None,
        _flag("--mail-user", metavar="MAIL", text="Told about end, failure, requeue.", panel=_SLURM),
    ] = None,
    more: Annotated[
        list[str] | None,
        _flag("--sbatch-arg", metavar="--X=Y", text="Any other option of sbatch.", panel=_SLURM),
    ] = None,
    modules: Annotated[
        list[str] | None, _flag("--module", metavar="NAME", text="Load a module: torch/2.6.", panel=_NODE)
    ] = None,
    venv: Annotated[
        Path | None,
        _flag("--venv", metavar="DIR", text="Virtual environment; default: the one in use.", panel=_NODE),
    ] = None,
    conda: Annotated[
        str | None, _flag("--conda", metavar="ENV", text="Conda environment instead.", panel=_NODE)
    ] = None,
    env: Annotated[
        list[str] | None, _flag("--env", metavar="K=V", text="Export a variable.", panel=_NODE)
    ] = None,
    array: Annotated[
        str | None, _flag("--array", metavar="WHAT", text="seeds=0,1,2, or grid.", panel=_ARRAY)
    ] = None,
    grid: Annotated[
        list[str] | None,
        _flag(
            "--grid",
            metavar="KEY=A,B",
            text="Values of a recipe key; several: each combination.",
            panel=_ARRAY,
        ),
    ] = None,
    at_once: Annotated[
        int | None, _flag("--at-once", metavar="N", text="Jobs that run at a time.", panel=_ARRAY)
    ] = None,
    job_name: Annotated[
        str | None, _flag("--job-name", "-J", metavar="NAME", text="Default: the recipe's name.", panel=_JOB)
    ] = None,
    validate: Annotated[
        bool, _flag("--validate", text="Evaluate in a job that waits for the training.", panel=_JOB)
    ] = False,
    validate_split: Annotated[
        str, _flag("--validate-split", metavar="SPLIT", text="What it evaluates: val, test.", panel=_JOB)
    ] = "val",
    requeue: Annotated[
        bool,
        _flag(
            "--requeue/--no-requeue",
            text="Back into the queue where time runs out or it is preempted.",
            panel=_JOB,
        ),
    ] = True,
    signal_seconds: Annotated[
        int,
        _flag("--signal-seconds", metavar="S", text="Save and stop so long before the limit.", panel=_JOB),
    ] = 120,
    output: Annotated[
        Path, _flag("--output", "-o", metavar="DIR", text="Folder of all runs.", panel=_JOB)
    ] = Path("runs"),
    dry_run: Annotated[
        bool, _flag("--dry-run", text="Write and show the files; submit nothing.", panel=_JOB)
    ] = False,
) -> None:
    """Train on a Slurm cluster: write a job file, submit it, and let it queue itself again until it is done.

    What stands behind -- is for the training: praxiscope submit RECIPE ... -- --epochs 30 --set train.lr=1e-4
    """
    from praxiscope.cluster.spec import Environment, Resources
    from praxiscope.workflows.submit import TrainingJob, parse_array
    from praxiscope.workflows.submit import submit as run_submission

    chosen, words = read_training_words(recipe, context.args)
    result = run_submission(
        TrainingJob(
            recipe=chosen,
            data=data,
            resources=Resources(
                time=time,
                nodes=nodes,
                gpus=gpus,
                cpus=cpus,
                memory=mem,
                partition=partition,
                account=account,
                qos=qos,
                constraint=constraint,
                exclusive=exclusive,
                mail_user=mail_user,
                more=tuple(more or ()),
            ),
            environment=Environment(
                modules=tuple(modules or ()),
                conda=conda,
                variables=parse_variables(env or ()),
                venv=venv.absolute() if venv is not None else None if conda else find_venv(),
            ),
            name=job_name,
            array=parse_array(array, tuple(grid or ()), at_once=at_once),
            validate=validate_split if validate else None,
            requeue=requeue,
            signal_s=signal_seconds,
            output=output,
            words=words,
            arguments=("praxiscope", *sys.argv[1:]),
        ),
        dry_run=dry_run,
    )
    typer.echo(format_result(result, output))


def read_training_words(recipe: str, extra: Sequence[str]) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe with what stands behind ``--``, and the words there that are no recipe keys.

    Raises:
        UsageError: Flags that a job can't have, or the recipe refuses a value.
    """
    import typer.main

    from praxiscope.cli.train_command import collect_train_overrides, train
    from praxiscope.errors import UsageError
    from praxiscope.recipe.load import load_recipe

    if recipe.startswith("-"):
        raise UsageError(f"'{recipe}' stands where the recipe should: praxiscope submit RECIPE ... -- FLAGS")
    app = typer.Typer(add_completion=False, context_settings={"token_normalize_func": _spell})
    app.command(add_help_option=False)(train)
    # Slips are shown as those of any command, and end with its exit code.
    context = typer.main.get_command(app).make_context(
        "praxiscope submit RECIPE ... --", normalize_arguments(extra)
    )
    given = context.params
    for name, reason in _TAKEN.items():
        if given[name] not in {None, Path("runs")}:
            raise UsageError(f"Behind --: {reason}, so '{given[name]}' can't stand there.")
    words = ["--allow-changes"] if given["allow_changes"] else []
    if given["device"] is not None:
        words += ["--device", given["device"]]
    return load_recipe(recipe, collect_train_overrides({**given, "recipe": recipe})), tuple(words)


def _spell(token: str) -> str:
    return token.replace("_", "-")


def parse_variables(texts: Sequence[str]) -> dict[str, str]:
    """Return the variables of ``--env NAME=value``.

    >>> parse_variables(["HF_HOME=/data/hf"])
    {'HF_HOME': '/data/hf'}

    Raises:
        UsageError: One without ``=``.
    """
    from praxiscope.errors import UsageError

    for text in texts:
        if "=" not in text:
            raise UsageError(f"--env '{text}': write NAME=value, e.g. --env HF_HOME=/data/hf.")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def find_venv() -> Path | None:
    """Return the virtual environment that this command runs in; None outside of one."""
    return Path(sys.prefix) if sys.prefix != sys.base_prefix else None


def format_result(result: Submitted, output: Path) -> str:
    """Return what was submitted, and what to type next; after a dry run, the files."""
    submission = result.submission
    notes = [f"note: {note}" for note in result.notes]
    if not submission.jobs:
        texts = [script.read_text(encoding="utf-8").rstrip() for script in result.scripts]
        listed = [f"{script}:\n\n{text}\n" for script, text in zip(result.scripts, texts, strict=True)]
        return "\n".join([*listed, *notes, f"Nothing was submitted. To do so: sbatch {result.scripts[0]}"])
    of = f", {len(submission.elements)} jobs" if submission.elements else ""
    lines = [f"{kind}: job {job}{of if kind == 'train' else ''}" for kind, job in submission.jobs.items()]
    where = "" if output == Path("runs") else f" --output {output}"
    more = [
        f"Files: {submission.folder}",
        f"Next: praxiscope jobs {submission.jobs['train']} --follow{where}",
    ]
    return "\n".join([*lines, *notes, *more])
