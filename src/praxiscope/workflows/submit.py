"""Submit: a recipe and a folder become a Slurm job, or an array of them, and the validation behind it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from praxiscope.cluster.script import write_script
from praxiscope.cluster.slurm import submit_script
from praxiscope.cluster.spec import Array, Environment, JobSpec, Resources, build_grid
from praxiscope.cluster.submissions import Submission, make_folder
from praxiscope.errors import UsageError
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.environment import mask_command


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A training as it is to be submitted."""

    recipe: Recipe
    """What to train; stored beside the script, so that a later change of a recipe file changes nothing."""
    data: Path
    """The data folder, as the node sees it."""
    resources: Resources
    """What to ask Slurm for."""
    environment: Environment = field(default_factory=Environment)
    """Modules, virtual environment, variables."""
    name: str | None = None
    """Job name; the recipe's by default."""
    array: Array | None = None
    """Jobs that differ in recipe keys."""
    validate: str | None = None
    """Split that a dependent job evaluates after a training that ended well: ``val`` or ``test``."""
    requeue: bool = True
    """Whether a job that was stopped before its end goes back into the queue."""
    signal_s: int = 120
    """Seconds before the time limit at which training saves and stops."""
    output: Path = Path("runs")
    """Folder of all runs."""
    words: tuple[str, ...] = ()
    """Further words for ``praxiscope train`` that are no recipe keys: ``--device cuda``."""
    arguments: tuple[str, ...] = ()
    """The command line, for the record."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What came of it."""

    submission: Submission
    """With the job ids; without any after a dry run."""
    scripts: tuple[Path, ...]
    """The sbatch files, training first."""
    notes: tuple[str, ...]
    """What may go wrong on the node."""


def submit(job: TrainingJob, *, dry_run: bool = False) -> Submitted:
    """Write the sbatch files of a training and hand them to Slurm.

    Args:
        job: what to train, and how.
        dry_run: write the files only.

    Returns:
        Job ids and files.

    Raises:
        UsageError: Something that Slurm or the recipe wouldn't take; nothing was written.
        EnvironmentProblem: No sbatch, or Slurm refuses; the files are written.
    """
    require_array(job.recipe, job.array)
    _require_split(job.validate)
    if job.recipe.train.parallel == "fsdp" and job.resources.processes == 1:
        raise UsageError(
            "train.parallel is fsdp, which spreads a network over several GPUs, and the job asks for one: "
            "--gpus 2 or more, or --set train.parallel=auto behind --."
        )
    name = job.name or job.recipe.name
    _check(job, name)
    folder, stamp = make_folder(job.output, name)
    atomic.write_text(folder / "recipe.yaml", dump_recipe(job.recipe))
    specs = _build_specs(job, name=name, folder=folder, stamp=stamp)
    scripts = tuple(write_script(spec) for spec in specs)
    submission = _describe(job, specs[0])
    submission.write()
    if not dry_run:
        submission = _hand_over(submission, scripts)
    return Submitted(submission=submission, scripts=scripts, notes=tuple(_list_doubts(job)))


def require_array(recipe: Recipe, array: Array | None) -> None:
    """Check that each job of an array has a recipe that is valid and unlike the others'.

    Raises:
        UsageError: An unknown key, a value that it doesn't take, or the same values twice.
    """
    if array is None:
        return
    content = recipe.model_dump(mode="json")
    if "name" in array.values:
        raise UsageError("An array can't change 'name': all its runs lie under the recipe's name.")
    for index in range(array.size):
        load_recipe(content, [f"{key}={values[index]}" for key, values in array.values.items()])
    described = [array.describe(index) for index in range(array.size)]
    twice = sorted({text for text in described if described.count(text) > 1})
    if twice:
        raise UsageError(f"The array trains {', '.join(twice)} more than once; keep one of each.")


def parse_array(array: str | None, grid: tuple[str, ...], *, at_once: int | None = None) -> Array | None:
    """Return the array that ``--array`` and ``--grid`` ask for.

    Args:
        array: ``seeds=0,1,2`` or ``grid``; None for no array.
        grid: ``key=value,value``, each.
        at_once: jobs that may run at the same time.

    Raises:
        UsageError: Another form, or a grid that is asked for and not given.
    """
    columns: dict[str, list[str]] = {}
    word, _, values = (array or "").partition("=")
    if word == "seeds":
        columns["seed"] = _split_values(values)
        if not all(value.isdigit() for value in columns["seed"]):
            raise UsageError(f"--array '{array}': seeds are whole numbers, e.g. --array seeds=0,1,2.")
    elif array not in {None, "grid"}:
        raise UsageError(
            f"--array '{array}': write seeds=0,1,2, or grid with --grid train.lr=1e-4,3e-4 for each key."
        )
    if array == "grid" and not grid:
        raise UsageError("--array grid: name what to vary, e.g. --grid train.lr=1e-4,3e-4.")
    for text in grid:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise UsageError(f"--grid '{text}': write key=value,value, e.g. --grid train.lr=1e-4,3e-4.")
        if key in columns:
            raise UsageError(f"'{key}' is varied twice; give all its values at once.")
        columns[key] = _split_values(values)
    if not columns and at_once is not None:
        raise UsageError("--at-once is about an array; add --array or --grid.")
    return build_grid(columns, at_once=at_once) if columns else None


def _split_values(text: str) -> list[str]:
    """Split at commas outside of brackets.

    >>> _split_values("[0.5, 1.0], 2")
    ['[0.5, 1.0]', '2']
    """
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values if value.strip()]


def _require_split(split: str | None) -> None:
    if split not in {None, "val", "test", "train"}:
        raise UsageError(f"--validate-split '{split}': val, test and train are possible.")


def _check(job: TrainingJob, name: str) -> None:
    """Build the job once for nowhere: what it refuses, it refuses before a folder is made."""
    _build_specs(job, name=name, folder=job.output.absolute() / name, stamp="")


def _build_specs(job: TrainingJob, *, name: str, folder: Path, stamp: str) -> list[JobSpec]:
    resources, array = job.resources, job.array
    jobs = f"{array.size} jobs, " if array is not None else ""
    kind, _, _ = resources.gpus.rpartition(":")
    training = JobSpec(
        name=name, folder=folder, directory=Path.cwd(), resources=resources, environment=job.environment,
        command=("train", (folder / "recipe.yaml").as_posix(), "--data", job.data.absolute().as_posix(),
                 "--output", job.output.absolute().as_posix(), *job.words),
        array=array, requeue=job.requeue, signal_s=job.signal_s,
        run=job.output.absolute() / job.recipe.name / f"{stamp}-slurm",
        title=f"Trains {job.recipe.name} on {job.data}: {jobs}{_describe_size(resources)}, "
        f"at most {resources.time} a session",
    )  # fmt: skip
    if job.validate is None:
        return [training]
    one = "0" if resources.gpus == "0" else f"{kind}:1".removeprefix(":")
    validation = replace(
        training,
        name=f"{name}-{job.validate}", script_name="validate", of_job=True,
        command=("evaluate", "--split", job.validate), resources=replace(resources, nodes=1, gpus=one),
        array=None if array is None else Array(size=array.size, at_once=array.at_once),
        title=f"Evaluates what {name} has trained on the {job.validate} split",
    )  # fmt: skip
    return [training, validation]


def _describe_size(resources: Resources) -> str:
    nodes = "1 node" if resources.nodes == 1 else f"{resources.nodes} nodes"
    return f"{nodes} x {resources.gpus} GPU" if resources.gpus != "0" else f"{nodes}, no GPU"


def _describe(job: TrainingJob, spec: JobSpec) -> Submission:
    return Submission(
        name=spec.name, folder=spec.folder, recipe=job.recipe.name, data=str(job.data.absolute()),
        created=datetime.now(UTC).isoformat(timespec="seconds"), run=str(spec.run), jobs={},
        elements=() if job.array is None else tuple(map(job.array.describe, range(job.array.size))),
        arguments=tuple(mask_command(job.arguments)),
    )  # fmt: skip


def _hand_over(submission: Submission, scripts: tuple[Path, ...]) -> Submission:
    """Submit, and write each id down before the next thing can fail."""
    train = submit_script(scripts[0])
    submission = submission.with_job("train", train)
    submission.write()
    for script in scripts[1:]:
        # aftercorr: each job of the array after the training of the same index.
        after = f"{'aftercorr' if submission.elements else 'afterok'}:{train}"
        job = submit_script(script, dependency=after, arguments=[str(train)])
        submission = submission.with_job("validate", job)
        submission.write()
    return submission


def _list_doubts(job: TrainingJob) -> list[str]:
    doubts = []
    if not job.data.exists():
        doubts.append(f"{job.data.absolute()} is not visible on this machine; the node must see it.")
    venv = job.environment.venv
    if venv is not None and not (venv / "bin" / "activate").is_file():
        doubts.append(f"{venv} has no bin/activate on this machine; the node must see it.")
    return doubts
