"""``torch.compile``: kernels written and compiled for this network, at some tens of seconds."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import dataclass
from typing import cast

from praxiscope.profiling.material import Images, Logits, Material
from praxiscope.profiling.runtimes.session import Precision, Session
from praxiscope.profiling.runtimes.torch_session import TorchSession, load_module

_COMPILERS = ("g++", "clang++", "c++", "cl")


@dataclass(frozen=True)
class Compiled:
    """Inductor's default mode; another batch size is compiled anew."""

    name: str = "compiled"
    precision: Precision = "fp32"

    def explain_absence(self) -> str | None:
        """Return what is missing: torch compiles C++ for CPUs."""
        wanted = (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS
        if any(shutil.which(name) for name in wanted):
            return None
        return (
            f"torch.compile needs a C++ compiler and finds none ({', '.join(wanted)}): install g++ or clang, "
            "or name one in the environment variable CXX"
        )

    def prepare(self, material: Material) -> None:
        """Do nothing: compiling happens at the first call."""

    def open(self, material: Material) -> Session:
        """Load the network; its first call compiles it."""
        from torch import compile as torch_compile
        from torch import nn

        module = cast("nn.Module", torch_compile(load_module(material)))
        return _Quiet(TorchSession(module))


class _Quiet:
    """Keeps the compiler's own deprecations from the user."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, images: Images, /) -> Logits:
        if images.shape in self._seen:
            return self._session(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            logits = self._session(images)
        self._seen.add(images.shape)
        return logits
