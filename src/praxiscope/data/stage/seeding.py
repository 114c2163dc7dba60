"""Random streams that depend on names alone: no global state, no order of calls."""

from __future__ import annotations

import zlib

import numpy as np


def rng_for(seed: int, *keys: int | str) -> np.random.Generator:
    """Return the generator of one named stream.

    Args:
        seed: Any non-negative integer; the data set's seed.
        keys: What the stream is for, such as ``("sample", "test", "wave", 12)``. Words enter by their
            CRC-32, so adding an action or a split moves no other stream.

    Returns:
        A fresh generator (PCG64); equal arguments give equal draws.
    """
    spawn_key = tuple(zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))
