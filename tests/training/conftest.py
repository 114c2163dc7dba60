from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


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
