from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own audit cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(folder))
    return folder


@pytest.fixture
def shared_data() -> Path:
    base = Path(os.environ.get("PRAXISCOPE_SHARED", Path(__file__).parents[3] / "shared"))
    if not (base / "data").is_dir():
        pytest.skip(f"no real data: {base / 'data'} is absent (set PRAXISCOPE_SHARED)")
    return base / "data"
