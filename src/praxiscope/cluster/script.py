"""A job as an sbatch file that a person can read, change and submit by hand.

How a training survives its time limit (B2, B3): Slurm signals the script, which passes the signal on and
waits. Training saves after the step that it is in. Then ``status.json`` decides, not the exit code, which
torchrun doesn't pass on: a training that was preempted goes back into the queue, and starts again in the same
run folder, whose name follows from the job id.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from praxiscope.cluster.spec import JobSpec

STEPS_NAME = "steps"
"""Start of the names of the files, beside the script, that say how far each session of a job got."""

_SHUTDOWN_S = 30  # torchrun's own default, for a signal that comes later before the limit than that

_FORWARD = """\
# Slurm signals this script before the time limit, and where the job is preempted. It passes the signal on;
# training saves after the step that it is in, and ends.
stopping=no
child=
pass_on() {
  stopping=yes
  if [[ -n $child ]]; then kill -s "$1" "$child" 2>/dev/null || true; fi
}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
"""

_WAIT = """\
child=$!
if [[ $stopping == yes ]]; then kill -s USR1 "$child" 2>/dev/null || true; fi
# A signal ends `wait`, not the child: wait until it is gone, then ask how it ended.
while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
code=0
wait "$child" || code=$?
if [[ $code -eq 0 ]]; then exit 0; fi
"""

_JUDGE_RUN = """\
# Stopped before its end. The run's own word decides: torchrun doesn't pass exit codes on.
after=$(cat "$run/status.json" 2>/dev/null || true)
state=$(sed -n 's/^ *"state": "\\(.*\\)".*/\\1/p' <<<"$after")
step=$(sed -n 's/^ *"step": \\([0-9]*\\).*/\\1/p' <<<"$after")
if [[ $after == "$before" ]]; then state=none; fi # this session ended before it wrote anything
case $state in
  preempted) ;;
  none | running) if [[ $stopping == no ]]; then exit "$code"; fi ;; # cut off while it set up or saved
  *) exit "$code" ;;                                                 # an error: it would come again
esac

# Never in circles: two sessions in a row that got no further are the last.
if [[ ! -e $steps ]]; then echo 0 >"$steps"; fi
echo "${step:-0}" >>"$steps"
if [[ $(wc -l <"$steps") -ge 3 && $(tail -n 3 "$steps" | sort -u | wc -l) -eq 1 ]]; then
  echo "praxiscope: two sessions in a row ended at step ${step:-0}; not queued again." \\
    "Ask for a longer --time or --signal-seconds, or see why: $run/train.log" >&2
  exit 75
fi
"""

_JUDGE_CODE = """\
# 75: stopped by a signal after saving. Anything else is an error, which would come again.
if [[ $code -ne 75 ]]; then exit "$code"; fi
"""

_REQUEUE = """\
# Back into the queue, unless somebody cancelled the job.
stands=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T || true)
if [[ $stands == RUNNING ]]; then
  echo "praxiscope: stopped and saved; back into the queue"
  if scontrol requeue "$SLURM_JOB_ID"; then exit 0; fi
  echo "praxiscope: Slurm doesn't queue this job again (see above); submit it anew" >&2
else
  echo "praxiscope: stopped and saved; not queued again, for the job is ${stands:-unknown to Slurm}"
fi
exit 75
"""


def format_script(spec: JobSpec) -> str:
    """Return the sbatch file of a job.

    Args:
        spec: what to ask for and what to run.

    Returns:
        A bash script whose ``#SBATCH`` lines, environment and command line are quoted such that no value can
        become code. With ``spec.requeue`` it queues itself again where it was stopped before its end.
    """
    parts = [_format_head(spec), "set -euo pipefail\n", *([] if spec.of_job else [_FORWARD])]
    parts += [*_format_environment(spec), *_format_array(spec)]
    if spec.run is not None:
        parts += [_format_run(spec)]
    if spec.of_job:
        parts += [f"exec {_format_command(spec)}\n"]
        return "\n".join(parts)
    parts += [*_format_rendezvous(spec)]
    before = 'before=$(cat "$run/status.json" 2>/dev/null || true)\n' if spec.run is not None else ""
    parts += [before + _format_command(spec) + " &\n" + _WAIT]
    if spec.requeue:
        parts += [_JUDGE_CODE if spec.run is None else _JUDGE_RUN, _REQUEUE]
    else:
        parts += ['exit "$code"\n']
    return "\n".join(parts)


def format_words(words: tuple[str, ...] | list[str]) -> str:
    """Return words as bash reads them back, whatever characters they hold."""
    return shlex.join(words)


def _format_head(spec: JobSpec) -> str:
    title = " ".join(spec.title.split()) or f"praxiscope {spec.command[0]}"
    lines = [
        "#!/bin/bash",
        f"# {title}",
        f"# Written by praxiscope {version('praxiscope')}. To submit it again: {_format_sbatch(spec)}",
        "#",
        *(f"#SBATCH {option}" for option in _list_options(spec)),
    ]
    return "\n".join(lines) + "\n"


def _format_sbatch(spec: JobSpec) -> str:
    return f"sbatch {shlex.quote(spec.script.as_posix())}" + (" JOB_ID" if spec.of_job else "")


def _list_options(spec: JobSpec) -> Iterator[str]:
    """Yield sbatch's options, quoted as its own parser takes it."""
    asked = spec.resources
    yield f"--job-name={spec.name}"
    named = {
        "partition": asked.partition, "account": asked.account, "qos": asked.qos,
        "constraint": asked.constraint, "time": asked.time, "nodes": str(asked.nodes), "ntasks-per-node": "1",
        "gres": None if asked.gpus == "0" else f"gpu:{asked.gpus}", "cpus-per-task": str(asked.cpus),
        "mem": None if asked.memory is None else asked.memory.upper().removesuffix("B"),
        "mail-user": asked.mail_user,
        "mail-type": None if asked.mail_user is None else "END,FAIL,REQUEUE",
        "chdir": spec.directory.as_posix(),
    }  # fmt: skip
    for name, value in named.items():
        if value is not None:
            yield f"--{name}={shlex.quote(value)}"
    if asked.exclusive:
        yield "--exclusive"
    if spec.array is not None:
        limit = "" if spec.array.at_once is None else f"%{spec.array.at_once}"
        yield f"--array=0-{spec.array.size - 1}{limit}"
    log = f"{spec.folder.as_posix()}/".replace("%", "%%") + spec.script_name
    yield f"--output={shlex.quote(log + ('-%j.log' if spec.array is None else '-%A_%a.log'))}"
    yield "--open-mode=append"  # a job that is queued again goes on in its log
    if not spec.of_job:
        yield "--requeue" if spec.requeue else "--no-requeue"
        yield f"--signal=B:USR1@{spec.signal_s}"
    for option in asked.more:
        name, equals, value = option.partition("=")
        yield f"{shlex.quote(name)}={shlex.quote(value)}" if equals else shlex.quote(name)


def _format_environment(spec: JobSpec) -> Iterator[str]:
    wanted = spec.environment
    lines = [f"module load {format_words(wanted.modules)}"] if wanted.modules else []
    if wanted.venv is not None:
        lines.append(f"source {shlex.quote((wanted.venv / 'bin' / 'activate').as_posix())}")
    if wanted.conda is not None:
        lines.append('source "$(conda info --base)/etc/profile.d/conda.sh"')
        lines.append(f"conda activate {shlex.quote(wanted.conda)}")
    if lines:
        yield "\n".join(
            [
                "# Scripts of modules and environments use variables that may be unset.",
                "set +u",
                *lines,
                "set -u\n",
            ]
        )
    if wanted.variables:
        exports = [f"export {name}={shlex.quote(value)}" for name, value in wanted.variables.items()]
        yield "\n".join(exports) + "\n"


def _format_array(spec: JobSpec) -> Iterator[str]:
    if spec.array is None or not spec.array.values:
        return
    lines = ["# Job i of the array takes the i-th value of each."]
    for key, values in spec.array.values.items():
        lines.append(f"{_name_variable(key)}=({format_words(values)})")
    yield "\n".join(lines) + "\n"


def _name_variable(key: str) -> str:
    """Return a name for bash that no other variable of the script has.

    >>> _name_variable("train.lr")
    'values_train_lr'
    """
    return "values_" + re.sub(r"[^A-Za-z0-9]", "_", key)


def _format_run(spec: JobSpec) -> str:
    assert spec.run is not None
    job = "${1}" if spec.of_job else "${SLURM_JOB_ID}" if spec.array is None else "${SLURM_ARRAY_JOB_ID}"
    number = job if spec.array is None else f"{job}_${{SLURM_ARRAY_TASK_ID}}"
    lines = []
    if spec.of_job:
        lines = ["# $1 is the training's job id."]
    else:
        lines = ["# The run of this job: made when it first starts, gone on with when it starts again."]
    lines.append(f'run={shlex.quote(spec.run.as_posix())}"{number}"')
    if not spec.of_job:
        lines.append(f'steps={shlex.quote((spec.folder / STEPS_NAME).as_posix())}"-{number}.txt"')
    return "\n".join(lines) + "\n"


def _format_rendezvous(spec: JobSpec) -> Iterator[str]:
    if spec.resources.processes == 1:
        return
    yield (
        "# The processes meet at the first node. Jobs that share a node take different ports.\n"
        'mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")\n'
        "port=$((20000 + SLURM_JOB_ID % 10000))\n"
        "# Seconds that torchrun gives them to save, once it is told to stop (from torch 2.12; 30 before).\n"
        f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={max(_SHUTDOWN_S, spec.signal_s)}\n"
    )


def _break_lines(words: tuple[str, ...]) -> str:
    """Return words with a line for each option."""
    lines = [""]
    for word in words:
        if word.startswith("--"):
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + shlex.quote(word)
    return " \\\n  ".join(lines)


def _format_command(spec: JobSpec) -> str:
    words = _break_lines(spec.command)
    for key in spec.array.values if spec.array is not None else ():
        value = f'"${{{_name_variable(key)}[$SLURM_ARRAY_TASK_ID]}}"'
        words += f" \\\n  --set {shlex.quote(key + '=')}{value}"
    if spec.run is not None:
        words += ' \\\n  "$run"' if spec.of_job else ' \\\n  --run "$run"'
    if spec.resources.processes == 1 or spec.of_job:
        return f"praxiscope {words}"
    return (
        'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \\\n'
        f'  torchrun --nnodes="$SLURM_NNODES" --nproc-per-node={spec.resources.processes_per_node} \\\n'
        '  --rdzv-backend=c10d --rdzv-endpoint="${nodes[0]}:$port" --rdzv-id="$SLURM_JOB_ID" \\\n'
        "  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \\\n"
        f"  -m -- praxiscope {words}"  # without --, torchrun takes --run for an abbreviation of its own flags
    )


def write_script(spec: JobSpec) -> Path:
    """Write a job's sbatch file into its folder, which is made; return its path."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    spec.script.write_text(format_script(spec), encoding="utf-8", newline="\n")
    spec.script.chmod(0o700)  # what is exported may be a secret
    return spec.script
