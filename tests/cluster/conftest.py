"""Slurm as programs that only write down how they are called."""

from __future__ import annotations

import pytest
from fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "programs")
    monkeypatch.setenv("PATH", fake.path)
    return fake
