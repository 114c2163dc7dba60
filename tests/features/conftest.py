from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from class_folders import write_class_folders


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_features() -> Iterator[None]:
    """Sums of several threads come in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that holds nothing yet."""
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 training and 5 validation images of two classes, so that last batches are partial."""
    root = tmp_path_factory.mktemp("few")
    write_class_folders(root, splits={"train": 13, "val": 3, "test": 1}, names=("run", "walk"))
    (root / "train" / "run" / "012.jpg").unlink()
    (root / "val" / "run" / "002.jpg").unlink()
    return root
