"""The sbatch file: its text, its quoting, and what it does when training is signalled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from praxiscope import __version__
from praxiscope.cluster.script import format_script, write_script
from praxiscope.cluster.spec import Array, Environment, JobSpec, Resources, build_grid
from praxiscope.errors import UsageError

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None or os.name == "nt", reason="there is no bash")
FOLDER = Path("/work/runs/slurm/har-20260101-120000")


def build_spec(**changes: object) -> JobSpec:
    spec = JobSpec(
        name="har", folder=FOLDER, directory=Path("/work"), command=("train", "recipe.yaml", "--data", "/data"),
        resources=Resources(time="24:00:00", partition="gpu", gpus="1", cpus=8, memory="32gb"),
        environment=Environment(modules=("torch/2.6",), venv=Path("/work/venv")),
        run=Path("/work/runs/har/20260101-120000-slurm"), title="Trains har on /data",
    )  # fmt: skip
    return replace(spec, **changes)


GOLDEN = rf"""#!/bin/bash
# Trains har on /data
# Written by praxiscope {__version__}. To submit it again: sbatch /work/runs/slurm/har-20260101-120000/job.sbatch
#
#SBATCH --job-name=har
#SBATCH --partition=gpu
#SBATCH --time=24:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --chdir=/work
#SBATCH --output=/work/runs/slurm/har-20260101-120000/job-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

set -euo pipefail

# Slurm signals this script before the time limit, and where the job is preempted. It passes the signal on;
# training saves after the step that it is in, and ends.
stopping=no
child=
pass_on() {{
  stopping=yes
  if [[ -n $child ]]; then kill -s "$1" "$child" 2>/dev/null || true; fi
}}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM

# Scripts of modules and environments use variables that may be unset.
set +u
module load torch/2.6
source /work/venv/bin/activate
set -u

# The run of this job: made when it first starts, gone on with when it starts again.
run=/work/runs/har/20260101-120000-slurm"${{SLURM_JOB_ID}}"
steps=/work/runs/slurm/har-20260101-120000/steps"-${{SLURM_JOB_ID}}.txt"

before=$(cat "$run/status.json" 2>/dev/null || true)
praxiscope train recipe.yaml \
  --data /data \
  --run "$run" &
child=$!
if [[ $stopping == yes ]]; then kill -s USR1 "$child" 2>/dev/null || true; fi
# A signal ends `wait`, not the child: wait until it is gone, then ask how it ended.
while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
code=0
wait "$child" || code=$?
if [[ $code -eq 0 ]]; then exit 0; fi

# Stopped before its end. The run's own word decides: torchrun doesn't pass exit codes on.
after=$(cat "$run/status.json" 2>/dev/null || true)
state=$(sed -n 's/^ *"state": "\(.*\)".*/\1/p' <<<"$after")
step=$(sed -n 's/^ *"step": \([0-9]*\).*/\1/p' <<<"$after")
if [[ $after == "$before" ]]; then state=none; fi # this session ended before it wrote anything
case $state in
  preempted) ;;
  none | running) if [[ $stopping == no ]]; then exit "$code"; fi ;; # cut off while it set up or saved
  *) exit "$code" ;;                                                 # an error: it would come again
esac

# Never in circles: two sessions in a row that got no further are the last.
if [[ ! -e $steps ]]; then echo 0 >"$steps"; fi
echo "${{step:-0}}" >>"$steps"
if [[ $(wc -l <"$steps") -ge 3 && $(tail -n 3 "$steps" | sort -u | wc -l) -eq 1 ]]; then
  echo "praxiscope: two sessions in a row ended at step ${{step:-0}}; not queued again." \
    "Ask for a longer --time or --signal-seconds, or see why: $run/train.log" >&2
  exit 75
fi

# Back into the queue, unless somebody cancelled the job.
stands=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T || true)
if [[ $stands == RUNNING ]]; then
  echo "praxiscope: stopped and saved; back into the queue"
  if scontrol requeue "$SLURM_JOB_ID"; then exit 0; fi
  echo "praxiscope: Slurm doesn't queue this job again (see above); submit it anew" >&2
else
  echo "praxiscope: stopped and saved; not queued again, for the job is ${{stands:-unknown to Slurm}}"
fi
exit 75
"""


def test_a_job_on_one_gpu_reads_like_this():
    assert format_script(build_spec()) == GOLDEN


def test_several_gpus_meet_by_torchrun():
    asked = Resources(time="1-0", nodes=2, gpus="a100:4", cpus=32, exclusive=True)
    text = format_script(build_spec(resources=asked))
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n#SBATCH --gres=gpu:a100:4\n" in text
    assert "#SBATCH --exclusive\n" in text
    assert (
        """
# The processes meet at the first node. Jobs that share a node take different ports.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))
# Seconds that torchrun gives them to save, once it is told to stop (from torch 2.12; 30 before).
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=120

before=$(cat "$run/status.json" 2>/dev/null || true)
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \\
  torchrun --nnodes="$SLURM_NNODES" --nproc-per-node=4 \\
  --rdzv-backend=c10d --rdzv-endpoint="${nodes[0]}:$port" --rdzv-id="$SLURM_JOB_ID" \\
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \\
  -m -- praxiscope train recipe.yaml \\
  --data /data \\
  --run "$run" &
child=$!
"""
        in text
    )


def test_an_array_takes_its_values_from_readable_lists():
    array = build_grid({"seed": ["0", "1"], "train.lr": ["1e-4", "3e-4"]}, at_once=2)
    text = format_script(build_spec(array=array))
    assert (
        "#SBATCH --array=0-3%2\n#SBATCH --output=/work/runs/slurm/har-20260101-120000/job-%A_%a.log\n" in text
    )
    assert "values_seed=(0 0 1 1)\nvalues_train_lr=(1e-4 3e-4 1e-4 3e-4)\n" in text
    assert '--set seed="${values_seed[$SLURM_ARRAY_TASK_ID]}" \\\n' in text
    assert 'slurm"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"\n' in text


def test_a_job_of_another_job_evaluates_its_run():
    spec = build_spec(command=("evaluate", "--split", "val"), of_job=True, script_name="validate")
    text = format_script(spec)
    assert text.endswith('exec praxiscope evaluate \\\n  --split val \\\n  "$run"\n')
    assert 'run=/work/runs/har/20260101-120000-slurm"${1}"\n' in text
    assert "--signal" not in text
    assert f"sbatch {FOLDER}/validate.sbatch JOB_ID" in text


def test_all_options_of_slurm_and_the_environment():
    asked = Resources(
        time="90",
        account="lab",
        qos="high",
        constraint="a100|h100",
        mail_user="me@x.org",
        more=("--reservation=a b",),
    )
    environment = Environment(conda="my env", variables={"HF_HOME": "/data/hf", "A": "it's $HOME"})
    text = format_script(build_spec(resources=asked, environment=environment, requeue=False, signal_s=300))
    for line in (
        "--account=lab", "--qos=high", "--constraint='a100|h100'", "--time=90", "--mail-user=me@x.org",
        "--mail-type=END,FAIL,REQUEUE", "--no-requeue", "--signal=B:USR1@300", "--reservation='a b'",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert "--gres" not in text
    assert "--mem" not in text
    assert "conda activate 'my env'\nset -u\n" in text
    assert "export HF_HOME=/data/hf\nexport A='it'\"'\"'s $HOME'\n" in text
    assert text.endswith('\nexit "$code"\n')
    assert "requeue " not in text


def test_a_command_without_a_run_folder_is_judged_by_its_exit_code():
    text = format_script(build_spec(run=None, command=("tune", "--worker"), array=Array(size=3)))
    assert "praxiscope tune \\\n  --worker &\n" in text
    assert 'if [[ $code -ne 75 ]]; then exit "$code"; fi' in text
    assert "status.json" not in text
    assert "scontrol requeue" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Resources(time="tomorrow"), "--time 'tomorrow': write minutes, HH:MM:SS or D-HH:MM:SS"),
        (lambda: Resources(time="1:99:00"), "--time '1:99:00': write"),
        (lambda: Resources(time="00:00:00"), "means no limit to Slurm"),
        (lambda: Resources(time="1", memory="lots"), "--mem 'lots': write a number with K, M, G or T"),
        (lambda: Resources(time="1", gpus="two"), "--gpus 'two': write a number of GPUs"),
        (lambda: Resources(time="1", nodes=0), "--nodes 0, --cpus-per-task 4: both must be 1 or more"),
        (lambda: Resources(time="1", partition="a\n#SBATCH --uid=0"), "holds a line break"),
        (lambda: Resources(time="1", more=("rm -rf",)), "--sbatch-arg 'rm -rf': write one option"),
        (lambda: Resources(time="1", more=("--wrap=ls",)), "--sbatch-arg '--wrap=ls'"),
        (lambda: Environment(venv=Path("a"), conda="b"), "--venv and --conda are both given"),
        (lambda: Environment(variables={"A;ls": "1"}), "--env 'A;ls': a name has letters"),
        (lambda: Environment(variables={"A": "\0"}), "can't hold a null character"),
        (lambda: Environment(modules=("a\nb",)), "holds a line break"),
        (lambda: Array(size=0), "An array of 0 jobs: between 1 and 1000"),
        (lambda: Array(size=2, values={"seed": ("1",)}), "seed has 1 values for 2 jobs"),
        (lambda: Array(size=2, at_once=0), "--at-once 0: it must be 1 or more"),
        (lambda: build_spec(name="a b"), "--job-name 'a b': write letters, digits"),
        (lambda: build_spec(name="-x"), "--job-name '-x'"),
        (lambda: build_spec(signal_s=0), "--signal-seconds 0: Slurm takes 1 to 65535"),
        (lambda: build_spec(command=("train", "a\0b")), "null character, which no program can be given"),
        (lambda: build_spec(folder=Path("/a\nb")), "holds a line break"),
        (lambda: build_spec(folder=Path("/a\\b")), "doesn't take a backslash"),
    ],
)
def test_what_slurm_or_a_shell_would_misread_is_refused(change, message):
    with pytest.raises(UsageError) as refused:
        change()
    assert message in str(refused.value)


@needs_bash
def test_nothing_that_is_given_can_become_code(tmp_path, slurm):
    """Every text that a user can give holds quotes, dollars, semicolons; the command gets it unchanged."""
    nasty = "a'b\"c$(touch pwned)`touch pwned`;touch pwned #%j \\ ü"
    slurm.write_program(
        "praxiscope", f"#!{sys.executable}\nimport json, os, sys\n"
        "open('got.json', 'w').write(json.dumps([sys.argv[1:], os.environ['VALUE']]))\n",
    )  # fmt: skip
    folder = tmp_path / nasty.replace("\\", "")
    spec = build_spec(
        folder=folder, directory=tmp_path, run=tmp_path / nasty, title=f"{nasty}\ntouch pwned",
        command=("train", nasty, "two\nlines", ""), array=Array(size=1, values={"model.name": (nasty,)}),
        environment=Environment(variables={"VALUE": f"{nasty}\n{nasty}"}),
        resources=Resources(time="1", partition=nasty, account=nasty, constraint=nasty, more=(f"--comment={nasty}",)),
    )  # fmt: skip
    script = write_script(spec)
    ended = run_script(script, SLURM_ARRAY_JOB_ID="9", SLURM_ARRAY_TASK_ID="0")
    assert ended.returncode == 0, ended.stderr
    words, value = json.loads((tmp_path / "got.json").read_text(encoding="utf-8"))
    run = f"{(tmp_path / nasty).as_posix()}9_0"
    assert words == ["train", nasty, "two\nlines", "", "--set", f"model.name={nasty}", "--run", run]
    assert value == f"{nasty}\n{nasty}"
    assert not list(tmp_path.rglob("pwned"))
    assert (script.stat().st_mode & 0o077) == 0, "what is exported may be a secret"


def run_script(script: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    assert BASH is not None
    return subprocess.run(
        [BASH, str(script)], capture_output=True, text=True, check=False, timeout=120,
        cwd=script.parents[1], env={**os.environ, "SLURM_JOB_ID": "9", **variables},
    )  # fmt: skip


# A stand-in for `praxiscope train --run DIR`: does as the file `acts` beside it says, a line a session.
_TRAINING = """\
#!{python}
import json, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--run") + 1])
run.mkdir(parents=True, exist_ok=True)
here = pathlib.Path({folder!r})
lines = (here / "acts").read_text().splitlines()
(here / "acts").write_text("\\n".join(lines[1:]))
state, step, code = lines[0].split()
def write():
    if state != "silent":
        status = dict(schema=1, state=state, step=int(step), epoch=1, updated=str(time.time()), message='"state": "x"')
        (run / "status.json").write_text(json.dumps(status, indent=1))
    sys.exit(int(code))
if state == "preempted":
    signal.signal(signal.SIGUSR1, lambda *_: write())
    signal.signal(signal.SIGTERM, lambda *_: write())
    (here / "ready").touch()
    time.sleep(300)
    sys.exit(99)
write()
"""


@pytest.fixture
def play(tmp_path, slurm):
    """Run the script of a job whose training ends as told; return the exit code and the error's text."""
    slurm.write_program("praxiscope", _TRAINING.format(python=sys.executable, folder=str(slurm.folder)))
    spec = build_spec(
        folder=tmp_path / "job", directory=tmp_path, run=tmp_path / "run", environment=Environment()
    )
    script = write_script(spec)

    def run(act: str, *, number: int | None = None) -> tuple[int, str]:
        (slurm.folder / "acts").write_text(act)
        (slurm.folder / "ready").unlink(missing_ok=True)
        assert BASH is not None
        process = subprocess.Popen(
            [BASH, str(script)], stderr=subprocess.PIPE, text=True, env={**os.environ, "SLURM_JOB_ID": "9"}
        )
        if number is not None:
            deadline = time.monotonic() + 120
            while not (slurm.folder / "ready").exists():
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors

    return run


@needs_bash
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_stopped_training_goes_back_into_the_queue(play, slurm, number, capfd):
    assert play("preempted 7 75", number=number)[0] == 0
    assert slurm.calls("scontrol") == [["scontrol", "requeue", "9"]]
    assert slurm.calls("squeue") == [["squeue", "--noheader", "--jobs=9", "--format=%T"]]
    assert "stopped and saved; back into the queue" in capfd.readouterr().out


@needs_bash
def test_torchrun_hides_the_exit_code_and_it_is_queued_again_all_the_same(play, slurm):
    assert play("preempted 7 1", number=signal.SIGUSR1)[0] == 0
    assert len(slurm.calls("scontrol")) == 1


@needs_bash
@pytest.mark.parametrize("act", ["done 9 0", "failed 7 4", "diverged 7 5", "silent 0 1", "running 0 137"])
def test_ended_or_failed_is_not_queued_again(play, slurm, act):
    assert play(act)[0] == int(act.split()[2])
    assert slurm.calls("scontrol") == []


@needs_bash
def test_an_error_of_set_up_after_a_preemption_is_not_taken_for_one(play, slurm):
    """status.json still says what the session before wrote."""
    play("preempted 7 75", number=signal.SIGUSR1)
    assert play("silent 0 3")[0] == 3
    assert len(slurm.calls("scontrol")) == 1


@needs_bash
def test_a_cancelled_job_stays_cancelled(play, slurm, capfd):
    slurm.answer("squeue", "CANCELLED\n")
    assert play("preempted 7 75", number=signal.SIGTERM)[0] == 75
    assert slurm.calls("scontrol") == []
    assert "stopped and saved; not queued again, for the job is CANCELLED" in capfd.readouterr().out


@needs_bash
def test_a_requeue_that_slurm_refuses_is_said(play, slurm):
    slurm.answer("scontrol", "Requested operation is disabled\n", code=1)
    code, errors = play("preempted 7 75", number=signal.SIGUSR1)
    assert code == 75
    assert "Slurm doesn't queue this job again (see above); submit it anew" in errors
    assert "Requested operation is disabled" in errors


@needs_bash
def test_two_sessions_without_progress_are_the_last(play, slurm):
    assert play("preempted 7 75", number=signal.SIGUSR1)[0] == 0
    assert play("preempted 7 75", number=signal.SIGUSR1)[0] == 0
    assert play("preempted 8 75", number=signal.SIGUSR1)[0] == 0, "one step on counts"
    assert play("preempted 8 75", number=signal.SIGUSR1)[0] == 0
    code, errors = play("preempted 8 75", number=signal.SIGUSR1)
    assert code == 75
    assert "two sessions in a row ended at step 8; not queued again" in errors
    assert "--signal-seconds" in errors
    assert len(slurm.calls("scontrol")) == 4


@needs_bash
def test_srun_and_torchrun_understand_the_command_for_several_gpus(tmp_path, slurm):
    """What reaches torchrun is read by torch's own parser: no flag of ours is taken for one of its own."""
    from torch.distributed.run import get_args_parser

    slurm.answer("scontrol", "node1\nnode2\n")
    slurm.write_program(
        "torchrun", f"#!{sys.executable}\nimport json, os, sys\n"
        "open('got.json', 'w').write(json.dumps([sys.argv[1:], os.environ['TORCH_ELASTIC_SHUTDOWN_TIMEOUT']]))\n",
    )  # fmt: skip
    spec = build_spec(
        folder=tmp_path / "job", directory=tmp_path, run=tmp_path / "run", environment=Environment(),
        resources=Resources(time="1", nodes=2, gpus="a100:4"), signal_s=300,
    )  # fmt: skip
    more = {"SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "32", "SLURM_JOB_NODELIST": "node[1-2]"}
    ended = run_script(write_script(spec), **more)
    assert ended.returncode == 0, ended.stderr
    asked = (slurm.folder / "srun.txt").read_text(encoding="utf-8")
    assert asked.startswith("--cpus-per-task=32 --kill-on-bad-exit=1 torchrun ")
    words, seconds = json.loads((tmp_path / "got.json").read_text(encoding="utf-8"))
    read = get_args_parser().parse_args(words)
    assert (read.nnodes, read.nproc_per_node) == ("2", "4")
    assert (read.rdzv_backend, read.rdzv_endpoint, read.rdzv_id) == ("c10d", "node1:20009", "9")
    assert {"SIGUSR1", "SIGTERM", "SIGINT"} <= set(read.signals_to_handle.split(","))
    assert (read.module, read.training_script) == (True, "praxiscope")
    training = ["train", "recipe.yaml", "--data", "/data", "--run", f"{(tmp_path / 'run').as_posix()}9"]
    assert read.training_script_args == training
    assert seconds == "300", "as long as Slurm gives from the signal to the limit"
    assert "SHUTDOWN_TIMEOUT=30\n" in format_script(replace(spec, signal_s=5)), "not less than torchrun's own"


@needs_bash
@pytest.mark.parametrize("of_job", [False, True])
@pytest.mark.parametrize("gpus", ["0", "2"])
@pytest.mark.parametrize("array", [None, build_grid({"seed": ["0", "1"]})])
@pytest.mark.parametrize("requeue", [False, True])
def test_every_shape_is_sound_bash(of_job, gpus, array, requeue, tmp_path):
    spec = build_spec(
        folder=tmp_path, of_job=of_job, resources=Resources(time="1", gpus=gpus), array=array, requeue=requeue
    )
    assert BASH is not None
    subprocess.run([BASH, "-n", str(write_script(spec))], check=True, timeout=20)


def test_the_docs_show_this_very_file():
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    shown = page.split("    #!/bin/bash\n    # Trains", maxsplit=1)[1].split("\n\nEvery value", maxsplit=1)[0]
    lines = ("#!/bin/bash\n    # Trains" + shown).splitlines()
    assert "\n".join(line.removeprefix("    ") for line in lines) + "\n" == GOLDEN
