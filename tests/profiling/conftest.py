"""A small trained run for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from praxiscope.runs.rundir import RunDir
from small_runs import train_small


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, noise_folder: Path) -> RunDir:
    """A run of two epochs that was evaluated on the test split."""
    return train_small(noise_folder, tmp_path_factory.mktemp("runs"))
