import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from praxiscope.errors import EnvironmentProblem, RunLocked
from praxiscope.runs.lock import RunLock, read_lock

# Takes the lock once "go" appears, says what happened, and holds it until its input ends.
CONTENDER = """
import pathlib, sys, time
from praxiscope.errors import RunLocked
from praxiscope.runs.lock import RunLock
folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with RunLock(folder) as lock:
        print("got", lock.note, flush=True)
        sys.stdin.readline()
except RunLocked as problem:
    print("refused", problem, flush=True)
"""


@pytest.fixture
def start():
    """Start contenders; all are ended with the test."""
    running = []

    def start(folder, code=CONTENDER):
        command = [sys.executable, "-c", code, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def tell(process, line="go\n"):
    process.stdin.write(line)
    process.stdin.flush()


def write_foreign(folder, age_s, host="node17"):
    stamp = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    info = {
        "host": host,
        "pid": 4321,
        "started": "2026-01-01T00:00:00+00:00",
        "heartbeat": stamp,
        "token": "theirs",
    }
    (folder / "lock.json").write_text(json.dumps(info), encoding="utf-8")


def contend(start, folder, rounds):
    for _ in range(rounds):
        pair = [start(folder), start(folder)]
        for process in pair:
            assert process.stdout.readline() == "ready\n"
        for process in pair:
            tell(process)
        answers = [process.stdout.readline() for process in pair]
        assert sorted(answer.split()[0] for answer in answers) == ["got", "refused"]
        winner, loser = sorted(pair, key=lambda process: answers[pair.index(process)].startswith("refused"))
        # The winner may be between its lock and saying who it is; then the loser can't name it.
        refusal = answers[pair.index(loser)]
        assert f"Process {winner.pid} on {socket.gethostname()}" in refusal or "Another process" in refusal
        for process in pair:
            process.communicate("end\n")
            assert process.returncode == 0
        assert not (folder / "lock.json").exists()


def test_started_twice_one_trains(tmp_path, start):
    contend(start, tmp_path, 5)


@pytest.mark.soak
def test_started_twice_twenty_times_one_trains(tmp_path, start):
    contend(start, tmp_path, 20)


def test_a_refusal_says_who_where_since_when_and_what_to_do(tmp_path):
    with RunLock(tmp_path):
        started = read_lock(tmp_path).started
        with pytest.raises(RunLocked) as caught, RunLock(tmp_path):
            pass
        message = str(caught.value)
        for part in (str(os.getpid()), socket.gethostname(), started, "--resume"):
            assert part in message
        assert re.search(r"last heartbeat \d s ago", message)
        assert caught.value.exit_code == 3
    with RunLock(tmp_path) as again:
        assert again.note is None


def test_an_error_inside_releases_it(tmp_path):
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with RunLock(tmp_path) as lock:
        assert lock.note is None


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_9_releases_it_at_once_and_the_next_one_says_so(tmp_path, start):
    holder = start(tmp_path)
    tell(holder)
    assert holder.stdout.readline() == "ready\n"
    assert holder.stdout.readline() == "got None\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path) as lock:
        assert f"Process {holder.pid} on {socket.gethostname()}" in lock.note
        assert read_lock(tmp_path).pid == os.getpid()


# The child speaks, so that it has run what it runs after a fork.
FORKING = CONTENDER.replace(
    'print("got", lock.note, flush=True)',
    'import os; os.fork() or (print("got", os.getpid(), flush=True), time.sleep(60))',
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_an_orphaned_loader_worker_does_not_hold_it(tmp_path, start):
    holder = start(tmp_path, FORKING)
    tell(holder)
    assert holder.stdout.readline() == "ready\n"
    child = int(holder.stdout.readline().split()[1])
    try:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # it is alive
        with RunLock(tmp_path) as lock:
            assert str(holder.pid) in lock.note
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("age_s", [0, 30, -300])
def test_another_machine_with_a_fresh_heartbeat_is_respected(tmp_path, age_s):
    write_foreign(tmp_path, age_s)
    with pytest.raises(
        RunLocked, match=r"Process 4321 on node17 .* 2026-01-01.*60 s old, or remove .*lock\.json"
    ):
        RunLock(tmp_path).__enter__()
    assert read_lock(tmp_path).token == "theirs"
    (tmp_path / "lock.json").unlink()
    with RunLock(tmp_path) as lock:  # the refusal has not kept the system's lock
        assert lock.note is None


def test_another_machine_that_fell_silent_is_taken_over_with_a_note(tmp_path):
    write_foreign(tmp_path, 61)
    with RunLock(tmp_path) as lock:
        assert re.match(r"Process 4321 on node17 .* 6\d s ago", lock.note)
        assert read_lock(tmp_path).host == socket.gethostname()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"host": "a"}',
        '{"host": "a", "pid": 1, "started": "", "heartbeat": "yesterday", "token": "z"}',
        '{"host": "a", "pid": 1, "started": "", "heartbeat": 5, "token": "z"}',
        '{"host": "a", "pid": 1, "started": "", "heartbeat": "2026-01-01T00:00:00", "token": "z"}',
    ],
)
def test_a_damaged_lock_file_stops_nobody(tmp_path, content):
    (tmp_path / "lock.json").write_text(content, encoding="utf-8")
    with RunLock(tmp_path):
        assert read_lock(tmp_path).pid == os.getpid()


def wait_until(condition, patience_s=5.0):
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_heart_beats_and_stops(tmp_path):
    with RunLock(tmp_path, heartbeat_s=0.02):
        (tmp_path / "lock.json").unlink()
        wait_until((tmp_path / "lock.json").exists)
        info = json.loads((tmp_path / "lock.json").read_text(encoding="utf-8"))
        assert (info["host"], info["pid"]) == (socket.gethostname(), os.getpid())
        assert abs(read_lock(tmp_path).age_s) < 5
    assert not [thread for thread in threading.enumerate() if thread.name == "run-lock-heartbeat"]
    assert not (tmp_path / "lock.json").exists()


def test_a_process_that_was_suspended_notices_that_it_was_replaced(tmp_path):
    with RunLock(tmp_path, heartbeat_s=0.02) as lock:
        lock.check()
        write_foreign(tmp_path, 0)

        def replaced():
            try:
                lock.check()
            except RunLocked as problem:
                return "another one took the run over" in str(problem) and "node17" in str(problem)
            return False

        wait_until(replaced)
    assert read_lock(tmp_path).token == "theirs"  # leaving must not remove the other one's


def test_a_heartbeat_on_a_full_disk_is_skipped(tmp_path, monkeypatch):
    failures = []

    def full(*_):
        failures.append(1)
        raise EnvironmentProblem("full")

    with RunLock(tmp_path, heartbeat_s=0.02) as lock:
        monkeypatch.setattr("praxiscope.runs.lock.atomic.write_json", full)
        wait_until(lambda: len(failures) >= 2)
        monkeypatch.undo()
        (tmp_path / "lock.json").unlink()
        wait_until((tmp_path / "lock.json").exists)
        lock.check()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"Can't lock the run folder .*absent"):
        RunLock(tmp_path / "absent").__enter__()
