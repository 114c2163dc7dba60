"""A run to explain, and its pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from html_reader import Page
from praxiscope.runs.rundir import RunDir


def copy_run(run: RunDir, folder: Path) -> RunDir:
    """Copy a run, so that a test may write into it."""
    shutil.copytree(run.path, folder / run.run_id)
    return RunDir.open(folder / run.run_id)


def list_files(folder: Path) -> set[str]:
    """Return every file below a folder, by its posix path."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_stays_at_home(page: Page, folder: Path) -> None:
    """Check that a page loads nothing and links only to its parts and to files that are there."""
    assert page.unclosed == []
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in {"href", "src", "data-own"} & set(attributes):
            value = attributes[name]
            if re.fullmatch(r"#[a-z0-9-]+|data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+", value):
                continue
            assert tag == "a", (tag, name, value[:80])
            assert (folder / value).resolve().is_file(), value
