"""What an image costs in each network of a cascade, from a ``profile.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from praxiscope.comparison.cascade import Costs
from praxiscope.errors import DataError, UsageError
from praxiscope.runs import atomic

DEFAULT_RUNTIME = "eager-fp32"
"""What ``predict`` runs a network with, unless its training chose another precision."""


def read_costs(
    path: Path, small: Path, large: Path, *, runtime: str = DEFAULT_RUNTIME, passes: tuple[int, int] = (1, 1)
) -> Costs:
    """Read the median latency of a single image of both runs.

    Args:
        path: ``profile.json``, as ``praxiscope profile`` writes it.
        small: the small network's run folder.
        large: the large one's.
        runtime: which of the profiled ways of running them; the same for both.
        passes: forward passes of an image in each network; a profile times one, mirror images take another.

    Raises:
        UsageError: There is no such file, it doesn't know a run, or a run wasn't timed with that runtime.
        DataError: It is no profile.
        IntegrityError: It is no JSON.
    """
    if not path.is_file():
        raise UsageError(
            f"--costs {path}: there is no such file; name the profile.json that 'praxiscope profile' writes."
        )
    content = atomic.read_json(path)
    entries = content.get("entries")
    if not isinstance(entries, list):
        raise DataError(
            f"--costs {path}: is no profile.json, it has no entries; 'praxiscope profile' writes one."
        )
    source = f"median latency of one image, {runtime}, from {path.name}"
    if passes != (1, 1):
        source += f", times the passes of an image (small {passes[0]}, large {passes[1]})"
    return Costs(
        small_ms=passes[0] * _find_latency(entries, small, runtime, path),
        large_ms=passes[1] * _find_latency(entries, large, runtime, path),
        source=source,
    )


def _find_latency(entries: list[Mapping[str, Any]], run: Path, runtime: str, path: Path) -> float:
    try:
        entry = next((entry for entry in entries if _is_of(entry, run)), None)
        if entry is None:
            known = ", ".join(str(entry["run"] or entry["model"]) for entry in entries)
            raise UsageError(
                f"--costs {path}: doesn't know {run}; it has {known}. Profile both runs in one go."
            )
        timed = {one["runtime"]: one for one in entry["runtimes"] if one["status"] == "ok"}
        if runtime not in timed:
            raise UsageError(
                f"--costs {path}: {run} wasn't timed with {runtime}; it was with "
                f"{', '.join(timed) or 'none'}. Choose one with --runtime."
            )
        return float(timed[runtime]["latency_ms"]["p50"]["value"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(
            f"--costs {path}: is no profile.json that this version reads ({problem!r})."
        ) from problem


def _is_of(entry: Mapping[str, Any], run: Path) -> bool:
    return entry["run"] is not None and Path(entry["run"]).resolve() == run.resolve()
