"""What several test folders share: generated pictures, the shared data folder, a cache of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from class_folders import write_class_folders


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep the audit cache of tests away from the user's."""
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(tmp_path_factory.getbasetemp() / "praxiscope-cache"))


@pytest.fixture
def photos(tmp_path) -> Path:
    """A user's folder: three classes, train and test."""
    names = ("jump", "run", "walk")
    return write_class_folders(tmp_path / "photos", splits={"train": 12, "test": 6}, names=names)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets beside the project."""
    root = Path(os.environ.get("PRAXISCOPE_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"the real data sets are not at {root} (PRAXISCOPE_SHARED names their folder)")
    return root
