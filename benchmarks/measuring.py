"""What the benchmarks share: medians with spread, the machine's description, a results file."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.runs.environment import describe_environment

RESULTS = Path(__file__).parent / "results"
_MACHINE = (
    "python",
    "os",
    "cpu",
    "cpu_flags",
    "cores",
    "memory_mib",
    "torch",
    "torchvision",
    "timm",
    "praxiscope",
)


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and largest of some measurements, rounded to four digits."""
    rounded = [float(f"{value:.4g}") for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "min", "max"), rounded, strict=True)) | {"n": len(values)}


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs to compare figures: processor, cores, versions, commit."""
    environment = describe_environment(Path.cwd())
    return {key: environment.get(key) for key in (*_MACHINE, "git_commit")}


def write_result(name: str, content: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` with command, time and machine beside the figures."""
    # A folder's name says which data; where it lies on this machine is nobody's business.
    words = [f"DATA/{Path(word).name}" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    heading = {
        "command": f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(words)}".strip(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
    }
    path.write_text(json.dumps({**heading, **content}, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
    return path


def format_summary(name: str, summary: dict[str, float], unit: str) -> str:
    """Return a line for a person."""
    spread = f"({summary['min']:.4g} to {summary['max']:.4g}, n={summary['n']})"
    return f"{name:<44} {summary['median']:>8.4g} {unit}  {spread}"
