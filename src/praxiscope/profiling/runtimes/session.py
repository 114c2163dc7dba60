"""What a runtime is: it prepares its files once, and opens a model from them."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

from praxiscope.profiling.material import Images, Logits, Material

Precision = Literal["fp32", "bf16", "int8"]
INSTALL = "pip install 'praxiscope[runtimes]'"


class Session(Protocol):
    """An open model. A call ends when its result is there."""

    def __call__(self, images: Images, /) -> Logits:
        """Return float32 logits (B, K) of normalised float32 images (B, 3, S, S)."""


class Runtime(Protocol):
    """One way of running a network."""

    @property
    def name(self) -> str:
        """What users type and ``profile.json`` says."""

    @property
    def precision(self) -> Precision:
        """What it computes in; sets the tolerance of its outputs."""

    def explain_absence(self) -> str | None:
        """Return why it can't be used here and what to do; None when it can."""

    def prepare(self, material: Material) -> None:
        """Write the files that `open` needs, unless they are there."""

    def open(self, material: Material) -> Session:
        """Load the model, in this process or a fresh one."""


def explain_missing(*packages: str) -> str | None:
    """Return what to install when one of the packages is absent."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"the package {' and '.join(missing)} is not installed: {INSTALL}"
