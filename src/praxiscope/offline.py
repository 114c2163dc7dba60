"""Whether the environment forbids the network."""

from __future__ import annotations

import os


def is_offline(*also: str) -> bool:
    """Whether ``PRAXISCOPE_OFFLINE``, or one of the further variables, is 1, true, yes or on."""
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("PRAXISCOPE_OFFLINE", *also)
    )
