"""What several test folders share: generated pictures, the shared data folder, a cache of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from class_folders import write_class_folders
from praxiscope.runs.rundir import RunDir


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the audit cache of tests away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRAXISCOPE_CACHE", str(tmp_path_factory.mktemp("audit-cache")))
        yield


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 training, 12 validation, 12 test images of three classes; tests change copies only."""
    splits = {"train": 12, "val": 4, "test": 4}
    return write_class_folders(tmp_path_factory.mktemp("noise"), splits=splits, names=("clap", "run", "wave"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, noise_folder: Path) -> RunDir:
    """A run of two epochs that was evaluated on the test split."""
    from small_runs import train_small

    return train_small(noise_folder, tmp_path_factory.mktemp("runs"))


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
