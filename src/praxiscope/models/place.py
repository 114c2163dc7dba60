"""Which of the processes that torchrun started this one is, by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from praxiscope.errors import EnvironmentProblem

_AS_TORCHRUN_SETS = (
    "Start the command through torchrun, which sets all of them: "
    "torchrun --nproc-per-node 2 -m praxiscope ..."
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which of the ranks a process is.

    Attributes:
        rank: 0-based, over all machines.
        size: ranks in all.
        local_rank: 0-based, on this machine.
        local_size: ranks on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Read which rank this process is from what torchrun sets; rank 0 of 1 where it sets nothing.

    Raises:
        EnvironmentProblem: Some of the variables are set and others are not, or one is no number that fits.
    """
    if "WORLD_SIZE" not in environment:
        return Place()
    size = _read_number(environment, "WORLD_SIZE", low=1)
    if size == 1:
        return Place()
    if absent := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]:
        raise EnvironmentProblem(
            f"WORLD_SIZE is {size}, but {', '.join(absent)} is not set. {_AS_TORCHRUN_SETS}. "
            "For one process, unset WORLD_SIZE."
        )
    rank = _read_number(environment, "RANK", high=size - 1)
    local_size = _read_number(environment, "LOCAL_WORLD_SIZE", low=1, default=1)
    return Place(
        rank=rank,
        size=size,
        local_rank=_read_number(environment, "LOCAL_RANK", default=0),
        local_size=local_size,
    )


def _read_number(
    environment: Mapping[str, str], name: str, *, low: int = 0, high: int | None = None, default: int = -1
) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
        limit = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise EnvironmentProblem(
            f"{name} is '{text}'; it must be a whole number {limit}. {_AS_TORCHRUN_SETS}."
        )
    return int(text)
