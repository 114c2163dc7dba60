"""The runtimes, cheap ones to prepare first, so that a small budget serves most."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.profiling.runtimes.bf16 import Bf16
from praxiscope.profiling.runtimes.channels_last import ChannelsLast
from praxiscope.profiling.runtimes.compiled import Compiled
from praxiscope.profiling.runtimes.eager import Eager
from praxiscope.profiling.runtimes.int8 import OnnxRuntimeDynamic, OnnxRuntimeStatic, OpenVinoInt8
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntime
from praxiscope.profiling.runtimes.openvino import OpenVino, OpenVinoBf16
from praxiscope.profiling.runtimes.session import Runtime

BASELINE = Eager().name
SLOW_TO_OPEN = MappingProxyType({"openvino-int8": 5.0, "compiled": 15.0})
"""Seconds that these need at least before they can be timed."""
RUNTIMES: tuple[Runtime, ...] = (
    Eager(), OnnxRuntime(), OpenVino(), ChannelsLast(), Bf16(), OpenVinoBf16(),
    OnnxRuntimeDynamic(), OnnxRuntimeStatic(), OpenVinoInt8(), Compiled(),
)  # fmt: skip


def find_runtimes(names: Sequence[str] | None) -> tuple[Runtime, ...]:
    """Return runtimes by name in the catalogue's order, eager always among them; all when None.

    Raises:
        UsageError: An unknown name.
    """
    if names is None:
        return RUNTIMES
    known = [runtime.name for runtime in RUNTIMES]
    for name in names:
        if name not in known:
            raise UsageError(
                f"No runtime is called '{name}'.{did_you_mean(name, known)} Allowed: {', '.join(known)}."
            )
    return tuple(runtime for runtime in RUNTIMES if runtime.name in {BASELINE, *names})
