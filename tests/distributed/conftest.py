"""One server of ranks for all of these tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from rank_server import RankServer


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankServer]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    with RankServer() as server:
        yield server
