from __future__ import annotations

from pathlib import Path

import pytest
from packed_data import write_mixed_folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(folder))
    return folder


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Pictures of several kinds and sizes, in train and test."""
    return write_mixed_folder(tmp_path / "data")
