"""What a job asks of Slurm and what it runs: checked when it is made, so that no script is half right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from praxiscope.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIME = re.compile(r"\d+|\d+:[0-5]\d|\d+:[0-5]\d:[0-5]\d|\d+-\d{1,2}(?::[0-5]\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?B?", re.IGNORECASE)
_GPUS = re.compile(r"(?:[A-Za-z0-9_.-]+:)?(\d+)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_MOST_TASKS = 1000  # Slurm's own default of MaxArraySize is 1001


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What is asked of Slurm, as its own options spell it; None leaves it to the cluster's default.

    Raises:
        UsageError: A value that Slurm would refuse or read as something else; says what is allowed.
    """

    time: str
    """Limit of one session: minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``."""
    nodes: int = 1
    """Machines."""
    gpus: str = "0"
    """GPUs of each node: a number, or ``<type>:<number>``; one process is started for each."""
    cpus: int = 4
    """Cores of each node."""
    memory: str | None = None
    """Memory of each node: a number with K, M, G or T; M where it has none."""
    partition: str | None = None
    """Queue."""
    account: str | None = None
    """Who pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that a node must have, such as ``a100|h100``."""
    exclusive: bool = False
    """Whether to share the nodes with nobody."""
    mail_user: str | None = None
    """Address that is told about the end, a failure or a requeue."""
    more: tuple[str, ...] = ()
    """Further options of sbatch, each with its leading ``--``."""

    def __post_init__(self) -> None:
        """Check every value."""
        _require(self.time, _TIME, "--time", "minutes, HH:MM:SS or D-HH:MM:SS, e.g. 24:00:00")
        _require(self.gpus, _GPUS, "--gpus", "a number of GPUs of each node, or type:number, e.g. a100:2")
        if self.memory is not None:
            _require(self.memory, _MEMORY, "--mem", "a number with K, M, G or T, e.g. 32G")
        if self.nodes < 1 or self.cpus < 1:
            raise UsageError(f"--nodes {self.nodes}, --cpus-per-task {self.cpus}: both must be 1 or more.")
        if not re.search(r"[1-9]", self.time):
            raise UsageError("--time 0 means no limit to Slurm; ask for a time, e.g. --time 24:00:00.")
        words = (self.partition, self.account, self.qos, self.constraint, self.mail_user, *self.more)
        refuse_control(*(word for word in words if word is not None))
        for option in self.more:
            if not option.startswith("--") or option.startswith("--wrap"):
                raise UsageError(
                    f"--sbatch-arg '{option}': write one option of sbatch with its dashes, "
                    "e.g. --sbatch-arg=--reservation=course."
                )

    @property
    def processes_per_node(self) -> int:
        """One for each GPU, or one where there are none."""
        match = _GPUS.fullmatch(self.gpus)
        assert match is not None
        return max(1, int(match[1]))

    @property
    def processes(self) -> int:
        """Processes that train together, on all nodes."""
        return self.nodes * self.processes_per_node


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What makes ``praxiscope`` a command on the node.

    Raises:
        UsageError: A name that is none, or both kinds of environment.
    """

    modules: tuple[str, ...] = ()
    """Loaded in this order, such as ``torch/2.6``."""
    venv: Path | None = None
    """Folder of a virtual environment."""
    conda: str | None = None
    """Name or folder of a conda environment."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to export."""

    def __post_init__(self) -> None:
        """Check every value."""
        if self.venv is not None and self.conda is not None:
            raise UsageError("--venv and --conda are both given; keep the one that has praxiscope.")
        for name in self.variables:
            if not _VARIABLE.fullmatch(name):
                raise UsageError(
                    f"--env {name!r}: a name has letters, digits and _, e.g. --env HF_HOME=/data/hf."
                )
        refuse_control(*self.modules, str(self.venv or ""), self.conda or "")
        if any("\x00" in value for value in self.variables.values()):
            raise UsageError("--env: a value can't hold a null character.")


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that differ in a few values, under one job id.

    Raises:
        UsageError: No job, too many, or lists of different lengths.
    """

    size: int
    """Number of jobs; their index is ``$SLURM_ARRAY_TASK_ID``, from 0."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Recipe key -> a value for each job; given to the command as ``--set key=value``."""
    at_once: int | None = None
    """Jobs that may run at the same time; all where None."""

    def __post_init__(self) -> None:
        """Check sizes and names."""
        if not 1 <= self.size <= _MOST_TASKS:
            raise UsageError(f"An array of {self.size} jobs: between 1 and {_MOST_TASKS} are possible.")
        if self.at_once is not None and self.at_once < 1:
            raise UsageError(f"--at-once {self.at_once}: it must be 1 or more.")
        for key, values in self.values.items():
            if len(values) != self.size:
                raise UsageError(f"{key} has {len(values)} values for {self.size} jobs.")
            refuse_control(key, *values)

    def describe(self, index: int) -> str:
        """Return what is special about one of the jobs: ``seed=1 train.lr=0.1``."""
        return " ".join(f"{key}={values[index]}" for key, values in self.values.items())


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A job: name, resources, environment, and the command of praxiscope that it runs.

    Raises:
        UsageError: The name can't be a file's, or a path can't stand in a script.
    """

    name: str
    """Job name; letters, digits, dots, hyphens, underscores."""
    folder: Path
    """Absolute folder of the script and of what it prints."""
    directory: Path
    """Absolute working directory of the job."""
    command: tuple[str, ...]
    """Words behind ``praxiscope``; each reaches the command exactly as it stands here."""
    resources: Resources
    environment: Environment = field(default_factory=Environment)
    array: Array | None = None
    run: Path | None = None
    """Absolute run folder of a training, to which the job id is added: ``<run><id>`` or
    ``<run><id>_<index>``. The command then gets ``--run`` with it. None for one that finds its own place."""
    of_job: bool = False
    """Whether the script takes another job's id as its argument and its runs are that job's (validation)."""
    requeue: bool = True
    """Whether a job that was stopped before its end goes back into the queue by itself."""
    signal_s: int = 120
    """Seconds before the time limit at which training is told to save and stop."""
    title: str = ""
    """A sentence for the head of the script."""
    script_name: str = "job"
    """File name of the script and of its log, without suffix."""

    def __post_init__(self) -> None:
        """Check names and paths."""
        _require(self.name, _NAME, "--job-name", "letters, digits, '.', '-' and '_', a letter or digit first")
        if not 1 <= self.signal_s <= 65535:
            raise UsageError(f"--signal-seconds {self.signal_s}: Slurm takes 1 to 65535.")
        if any("\x00" in word for word in self.command):
            raise UsageError("A word of the command holds a null character, which no program can be given.")
        paths = [str(path) for path in (self.folder, self.directory, self.run) if path is not None]
        refuse_control(*paths)
        if any("\\" in path for path in (str(self.folder), str(self.directory))):
            raise UsageError(
                f"{self.folder}: Slurm doesn't take a backslash in a path; choose another --output."
            )

    @property
    def script(self) -> Path:
        """The sbatch file."""
        return self.folder / f"{self.script_name}.sbatch"


def refuse_control(*words: str) -> None:
    """Refuse line breaks and other control characters, which would end a ``#SBATCH`` line.

    Raises:
        UsageError: One of the words has such a character.
    """
    for word in words:
        if _CONTROL.search(word):
            raise UsageError(f"{word!r} holds a line break or another control character; leave it out.")


def build_grid(columns: Mapping[str, Iterable[str]], *, at_once: int | None = None) -> Array:
    """Return the array that tries each combination; the last key changes fastest.

    >>> build_grid({"seed": ["0", "1"], "train.lr": ["0.1", "0.2"]}).values["train.lr"]
    ('0.1', '0.2', '0.1', '0.2')
    """
    rows: list[dict[str, str]] = [{}]
    for key, values in columns.items():
        rows = [{**row, key: value} for row in rows for value in values]
    return Array(
        size=len(rows), values={key: tuple(row[key] for row in rows) for key in columns}, at_once=at_once
    )


def _require(text: str, pattern: re.Pattern[str], flag: str, allowed: str) -> None:
    if not pattern.fullmatch(text):
        raise UsageError(f"{flag} {text!r}: write {allowed}.")
