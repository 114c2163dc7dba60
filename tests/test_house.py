"""Rules that the whole source keeps, whatever is added next."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "praxiscope"
FILES = sorted(SOURCE.rglob("*.py"))


def find(pattern: str, *, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return the places of a pattern in the source, comments left out."""
    places = []
    for path in FILES:
        if path.relative_to(SOURCE).as_posix() in allowed:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(pattern, line.split("#")[0]):
                places.append(f"{path.name}:{number}: {line.strip()}")
    return places


def test_nothing_is_unpickled():
    """A7: checkpoints are tensors and plain values; foreign files go through torch's safe loader only."""
    assert (
        find(r"weights_only\s*=\s*False|\bpickle\.(loads?|Unpickler)\(|(?<!safetensors\.)torch\.save\(") == []
    )
    loads = find(r"(?<!safetensors\.)\btorch\.load\(")
    assert loads
    assert all("weights_only=True" in place for place in loads)


def test_yaml_is_only_read_by_the_strict_loader():
    assert find(r"yaml\.(unsafe_|full_)?load", allowed=("recipe/load.py",)) == []


def test_only_the_command_line_prints_and_knows_typer_or_rich():
    outside = find(r"^\s*(import|from) (typer|rich)\b")
    cli = {path.name for path in (SOURCE / "cli").iterdir()}
    assert all(place.split(":")[0] in cli for place in outside)
    assert find(r"(?<![\w.])print\(") == []


def test_packages_speak_through_their_modules():
    for path in SOURCE.rglob("__init__.py"):
        if path.parent != SOURCE:
            assert path.read_text(encoding="utf-8") == "", path


LIGHT = (
    "praxiscope",
    "recipe.load",
    "runs.find",
    "stats.bootstrap",
    "data.build",
    "workflows.report",
    "workflows.check",
    "workflows.compare",
    "workflows.predict",
)


@pytest.mark.parametrize("module", [name if name == "praxiscope" else f"praxiscope.{name}" for name in LIGHT])
def test_these_import_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_module_imports():
    names = [
        ".".join(["praxiscope", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        for path in FILES
        if path.name != "__main__.py"
    ]
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    ended = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
