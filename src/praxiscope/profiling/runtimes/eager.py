"""torch as it is, in float32: what every other runtime is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from praxiscope.profiling.material import Material
from praxiscope.profiling.runtimes.session import Precision, Session
from praxiscope.profiling.runtimes.torch_session import TorchSession, load_module


@dataclass(frozen=True)
class Eager:
    """Module call by module call."""

    name: str = "eager-fp32"
    precision: Precision = "fp32"

    def explain_absence(self) -> str | None:
        """Return None: torch is always there."""
        return None

    def prepare(self, material: Material) -> None:
        """Do nothing: the weights are there."""

    def open(self, material: Material) -> Session:
        """Load the network."""
        return TorchSession(load_module(material))
