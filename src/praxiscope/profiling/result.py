"""What a profile found, as typed values and as the dictionary of ``profile.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from praxiscope.stats.intervals import Interval

SCHEMA = 1
Status = Literal["ok", "refused", "absent"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 accuracy with its 95 % interval (Wilson's)."""

    value: float
    low: float
    high: float
    n: int
    split: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Top-1 accuracy of a runtime minus eager's on the same samples."""

    value: float
    low: float
    high: float
    p_value: float
    """Exact McNemar test, two-sided."""
    n: int


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one call with one image."""

    p50: Interval
    p90: Interval
    p99: Interval
    repeats: int
    """Timed calls."""
    rounds: int
    round_low: float
    """Least median of a round: with ``round_high`` the spread that foreign load makes."""
    round_high: float


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Images per second with one batch size: batch size over the median time of a call."""

    batch_size: int
    images_per_s: Interval


@dataclass(frozen=True, kw_only=True)
class RuntimeProfile:
    """One way of running one model."""

    runtime: str
    status: Status
    reason: str | None = None
    """Why it was refused or is absent."""
    max_abs_diff: float | None = None
    """Largest difference of a logit from eager fp32 on real samples."""
    relative_diff: float | None = None
    """The same over the largest logit of eager fp32."""
    agreement: float | None = None
    """Share of those samples with the same top-1."""
    checked_on: int | None = None
    """Number of those samples."""
    latency_ms: Latency | None = None
    speedup: Interval | None = None
    """Eager's median latency over this one's, within rounds."""
    throughput: tuple[Throughput, ...] = ()
    peak_memory_mib: float | None = None
    """Peak resident memory of a fresh process that loads the model and predicts single images."""
    accuracy: Accuracy | None = None
    accuracy_difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``profile.json``."""
        found = asdict(self)
        found["speedup_vs_eager"] = found.pop("speedup")
        return _plain_dict(found)


@dataclass(frozen=True, kw_only=True)
class ModelProfile:
    """One model: what it holds, how right it is, how fast it is in which runtime."""

    model: str
    run: str | None
    img_size: int
    params: int
    gmacs: float
    gflops: float
    activations_m: float
    accuracy: Accuracy | None
    runtimes: tuple[RuntimeProfile, ...]
    stages_ms: Mapping[str, Mapping[str, Interval]]
    """``decode``, ``preprocess``, ``model``, ``postprocess`` -> ``p50``, ``p90`` of one image."""
    images: str
    """Which images were used."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    num_frames: int | None = None
    """T of a model of clips, whose every figure is of a clip: its rates times T are frames per second."""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``profile.json``."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found["accuracy"] = None if self.accuracy is None else asdict(self.accuracy)
        found["runtimes"] = [runtime.to_dict() for runtime in self.runtimes]
        found["stages_ms"] = {
            stage: {name: asdict(each) for name, each in quantiles.items()}
            for stage, quantiles in self.stages_ms.items()
        }
        return _plain_dict(found)


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits that a choice must keep."""

    max_latency_ms: float | None = None
    max_memory_mib: float | None = None
    runtime: str = "any"

    @property
    def given(self) -> bool:
        """Whether anything was asked for."""
        return self != Constraints()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model in a runtime, or nothing that fits, and why."""

    model: str | None
    runtime: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ProfileResult:
    """Everything that ``praxiscope profile`` found."""

    created: str
    machine: Mapping[str, Any]
    entries: tuple[ModelProfile, ...]
    constraints: Constraints | None
    choice: Choice | None
    recommendation: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``profile.json``; all intervals are of 95 %."""
        return {
            "schema": SCHEMA,
            "created": self.created,
            "machine": dict(self.machine),
            "entries": [entry.to_dict() for entry in self.entries],
            "constraints": None if self.constraints is None else asdict(self.constraints),
            "choice": None if self.choice is None else asdict(self.choice),
            "recommendation": list(self.recommendation),
        }


def _plain_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values: no tuples, and null where a figure is undefined."""
    return {key: _plain(item) for key, item in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
