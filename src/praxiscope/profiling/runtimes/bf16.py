"""torch under bfloat16 autocast, measured also where the processor emulates bfloat16, which is slow."""

from __future__ import annotations

from dataclasses import dataclass

from praxiscope.profiling.material import Material
from praxiscope.profiling.runtimes.session import Precision, Session
from praxiscope.profiling.runtimes.torch_session import TorchSession, load_module


@dataclass(frozen=True)
class Bf16:
    """Eager in bfloat16; convolutional networks in channels-last order, as they are trained."""

    name: str = "bf16"
    precision: Precision = "bf16"

    def explain_absence(self) -> str | None:
        """Return None: torch is always there."""
        return None

    def prepare(self, material: Material) -> None:
        """Do nothing: the weights are there."""

    def open(self, material: Material) -> Session:
        """Load the network."""
        return TorchSession(load_module(material), channels_last=not material.transformer, bf16=True)
