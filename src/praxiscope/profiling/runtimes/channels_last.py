"""torch in float32 with the channels innermost in memory, which convolutions on CPUs prefer."""

from __future__ import annotations

from dataclasses import dataclass

from praxiscope.profiling.material import Material
from praxiscope.profiling.runtimes.session import Precision, Session
from praxiscope.profiling.runtimes.torch_session import TorchSession, load_module


@dataclass(frozen=True)
class ChannelsLast:
    """Eager, images and convolution weights in channels-last order."""

    name: str = "channels-last"
    precision: Precision = "fp32"

    def explain_absence(self) -> str | None:
        """Return None: torch is always there."""
        return None

    def prepare(self, material: Material) -> None:
        """Do nothing: the weights are there."""

    def open(self, material: Material) -> Session:
        """Load the network."""
        return TorchSession(load_module(material), channels_last=True)
