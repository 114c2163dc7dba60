"""OpenVINO on the CPU, in a precision that is pinned: left alone, it picks bfloat16 where the CPU has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from praxiscope.profiling.material import Images, Logits, Material
from praxiscope.profiling.runtimes.no_telemetry import import_openvino
from praxiscope.profiling.runtimes.onnxruntime import prepare_onnx
from praxiscope.profiling.runtimes.session import Precision, Session, explain_missing


class OpenVinoSession:
    """An open model.

    Args:
        path: ``.onnx`` or ``.xml``; mapped, so nobody may overwrite it while the session lives.
        threads: that a call may use.
        hint: ``f32`` or ``bf16``, what floating-point layers compute in.
    """

    def __init__(self, path: Path, *, threads: int, hint: str) -> None:
        core = import_openvino().Core()
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)

    def __call__(self, images: Images, /) -> Logits:
        """Return float32 logits (B, K)."""
        return np.asarray(self._compiled(images)[0], dtype=np.float32)


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO in float32."""

    name: str = "openvino"
    precision: Precision = "fp32"

    def explain_absence(self) -> str | None:
        """Return what to install."""
        return explain_missing("onnx", "onnxscript", "openvino")

    def prepare(self, material: Material) -> None:
        """Write the network as ONNX, which OpenVINO reads."""
        prepare_onnx(material)

    def open(self, material: Material) -> Session:
        """Compile the network for this CPU."""
        return OpenVinoSession(material.onnx, threads=material.threads, hint="f32")


@dataclass(frozen=True)
class OpenVinoBf16:
    """OpenVINO in bfloat16."""

    name: str = "openvino-bf16"
    precision: Precision = "bf16"

    def explain_absence(self) -> str | None:
        """Return what to install, or that the CPU can't."""
        missing = OpenVino().explain_absence()
        if missing is not None:
            return missing
        if "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return None
        return "this CPU has no native bfloat16, so OpenVINO offers none"

    def prepare(self, material: Material) -> None:
        """Write the network as ONNX, which OpenVINO reads."""
        prepare_onnx(material)

    def open(self, material: Material) -> Session:
        """Compile the network for this CPU."""
        return OpenVinoSession(material.onnx, threads=material.threads, hint="bf16")
