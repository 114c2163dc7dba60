from __future__ import annotations

import pytest

from trained_pair import TrainedPair, train_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TrainedPair:
    """Two trained runs; tests change copies only."""
    return train_pair(tmp_path_factory.mktemp("pair"))
