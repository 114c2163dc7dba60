"""Programs named like Slurm's that write down how they were called, for machines without Slurm."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

_RECORD = """\
#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
name = os.path.basename(sys.argv[0])
with (folder / "calls.jsonl").open("a", encoding="utf-8") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
answer = folder / f"{{name}}.answer"
if answer.exists():
    code, _, text = answer.read_text(encoding="utf-8").partition("\\n")
    (sys.stdout if code == "0" else sys.stderr).write(text)
    sys.exit(int(code))
"""

_SRUN = """\
#!/bin/bash
# Leaves out srun's own options and becomes what it should start.
printf '%s\\n' "$*" >>{folder}/srun.txt
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


class FakeSlurm:
    """A folder of programs for the front of ``PATH``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "scontrol", "scancel", "sacct"):
            self.write_program(name, _RECORD.format(python=sys.executable, folder=str(folder)))
        self.write_program("srun", _SRUN.format(folder=folder))
        self.answer("sbatch", "123\n")
        self.answer("squeue", "RUNNING\n")

    def write_program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def answer(self, name: str, text: str, *, code: int = 0) -> None:
        """Let a program print something: on standard output, or on standard error where it fails."""
        (self.folder / f"{name}.answer").write_text(f"{code}\n{text}", encoding="utf-8")

    def calls(self, name: str | None = None) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if name in {None, call[0]}]

    @property
    def path(self) -> str:
        """``PATH`` with these programs and the few that scripts need, and no real Slurm."""
        tools = self.folder / "tools"
        if not tools.exists():
            tools.mkdir()
            for name in ("bash", "cat", "sed", "tail", "sort", "wc", "sleep", "env"):
                found = shutil.which(name)
                assert found is not None
                (tools / name).symlink_to(found)
        return os.pathsep.join([str(self.folder), str(tools)])
