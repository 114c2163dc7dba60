"""Runs praxiscope commands in processes of their own, forked from one that has imported torch already.

A command that is to be killed fifty times would spend its life importing. Here a start costs milliseconds,
and what is killed is a whole process that runs the command line's ``main``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self


class CommandServer:
    """Starts and awaits commands; use as a context manager."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._ask({"do": "hello"}) == {"ready": True}
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def start(self, arguments: Sequence[str], log: Path) -> int:
        """Start ``praxiscope ARGUMENTS``; return its process id. ``log`` gets what it prints."""
        return int(self._ask({"do": "start", "arguments": list(arguments), "log": str(log)})["pid"])

    def wait(self, pid: int, *, timeout_s: float = 600) -> int:
        """Return how a command ended: its exit code, or the negative number of the signal that ended it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            code = self._ask({"do": "poll", "pid": pid})["code"]
            if code is not None:
                return int(code)
            time.sleep(0.01)
        raise TimeoutError(f"process {pid} has not ended in {timeout_s} s")

    def is_running(self, pid: int) -> bool:
        """Whether a command goes on; one that has ended can no longer be waited for."""
        return self._ask({"do": "poll", "pid": pid})["code"] is None

    def run(self, arguments: Sequence[str], log: Path) -> int:
        """Run a command to its end; return its exit code."""
        return self.wait(self.start(arguments, log))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def _serve() -> None:
    import torch
    import torch.utils.tensorboard.writer

    import praxiscope.cli.commands
    import praxiscope.workflows.train  # noqa: F401

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    running: set[int] = set()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line), running)) + "\n")
        answers.flush()
    for pid in running:  # a test failed half-way
        os.kill(pid, signal.SIGKILL)


def _answer(question: dict[str, Any], running: set[int]) -> dict[str, Any]:
    if question["do"] == "start":
        pid = os.fork()
        if pid == 0:
            _run(question["arguments"], question["log"])
        running.add(pid)
        return {"pid": pid}
    if question["do"] == "poll":
        ended, status = os.waitpid(question["pid"], os.WNOHANG)
        running.discard(ended)
        return {"code": os.waitstatus_to_exitcode(status) if ended else None}
    return {"ready": True}


def _run(arguments: list[str], log: str) -> None:
    """Become the command; never return."""
    from praxiscope.cli.main import main

    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    code = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
