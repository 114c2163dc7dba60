"""Starts ranks as torchrun would, forked from one process that has imported torch already.

A rank by torchrun costs its imports, six seconds. Here a start costs milliseconds, and what runs, and may be
killed, is a whole process with torchrun's environment.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self


class RankServer:
    """Starts and awaits jobs of ranks; use as a context manager."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        environment["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
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

    def start_command(self, arguments: Sequence[str], log: Path, *, ranks: int = 1) -> list[int]:
        """Start ``praxiscope ARGUMENTS`` on so many ranks; return their process ids.

        Rank r writes to ``<log>.<r>``.
        """
        return self._start({"arguments": list(arguments)}, log, ranks)

    def call(self, function: str, argument: Any, log: Path, *, ranks: int) -> list[int]:
        """Call ``module:function`` with a JSON value on every rank; return their exit codes."""
        pids = self._start({"call": function, "argument": argument}, log, ranks)
        return [self.wait(pid) for pid in pids]

    def _start(self, work: dict[str, Any], log: Path, ranks: int) -> list[int]:
        port, pids = _find_port(), []
        for rank in range(ranks):
            places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            places |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = {key: str(value) for key, value in places.items()} if ranks > 1 else {}
            answer = self._ask({"do": "start", **work, "log": f"{log}.{rank}", "environment": environment})
            pids.append(int(answer["pid"]))
        return pids

    def wait(self, pid: int, *, timeout_s: float = 300) -> int:
        """Return how a process ended: its exit code, or the negative number of a signal."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            code = self._ask({"do": "poll", "pid": pid})["code"]
            if code is not None:
                return int(code)
            time.sleep(0.02)
        raise TimeoutError(f"process {pid} has not ended in {timeout_s} s")

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _serve() -> None:
    import pyarrow as pa
    import torch
    import torch.utils.tensorboard.writer

    import praxiscope.cli.commands
    import praxiscope.models.pulse
    import praxiscope.workflows.train  # noqa: F401

    torch.set_num_threads(1)
    pa.array([1])  # imports pandas where there is one
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
            _run(question)
        running.add(pid)
        return {"pid": pid}
    if question["do"] == "poll":
        ended, status = os.waitpid(question["pid"], os.WNOHANG)
        running.discard(ended)
        return {"code": os.waitstatus_to_exitcode(status) if ended else None}
    return {"ready": True}


def _run(question: dict[str, Any]) -> None:
    """Become the rank; never return."""
    out = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.update(question["environment"])
    code = 0
    try:
        if "call" in question:
            module, _, name = question["call"].partition(":")
            getattr(importlib.import_module(module), name)(question["argument"])
        else:
            from praxiscope.cli.main import main

            main(question["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:  # noqa: BLE001 - what a process would print as it dies
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
