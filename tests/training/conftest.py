from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from class_folders import write_class_folders


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's audit cache out of what outlives a test, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRAXISCOPE_CACHE", str(tmp_path_factory.mktemp("audit-cache")))
        yield


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 training, 12 validation, 12 test images of three classes; tests change copies only."""
    splits = {"train": 12, "val": 4, "test": 4}
    return write_class_folders(tmp_path_factory.mktemp("noise"), splits=splits, names=("clap", "run", "wave"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads come in another order: processes are compared bit for bit here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_folder(noise_folder: Path, tmp_path: Path) -> Path:
    """A copy of the images that a test may change."""
    return Path(shutil.copytree(noise_folder, tmp_path / "data"))
