"""ONNX Runtime on the CPU: no torch needed where a model is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from praxiscope.errors import EnvironmentProblem
from praxiscope.models.onnx_file import INPUT_NAME, OUTPUT_NAME, write_onnx
from praxiscope.profiling.material import Images, Logits, Material
from praxiscope.profiling.runtimes.no_telemetry import import_onnxruntime
from praxiscope.profiling.runtimes.session import Precision, Session, explain_missing

_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """An open ONNX file.

    Args:
        path: the file.
        threads: that a call may use.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Its threads would go on spinning after a call, on the cores of whatever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except (state.Fail, state.InvalidGraph, state.InvalidArgument, state.NotImplemented) as problem:
            raise EnvironmentProblem(f"ONNX Runtime can't run {path.name}: {problem}") from problem

    def __call__(self, images: Images, /) -> Logits:
        """Return float32 logits (B, K)."""
        (logits,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})
        return np.asarray(logits, dtype=np.float32)


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime in float32."""

    name: str = "onnxruntime"
    precision: Precision = "fp32"

    def explain_absence(self) -> str | None:
        """Return what to install."""
        return explain_missing("onnx", "onnxscript", "onnxruntime")

    def prepare(self, material: Material) -> None:
        """Write the network as ONNX."""
        prepare_onnx(material)

    def open(self, material: Material) -> Session:
        """Open the ONNX file."""
        return OnnxRuntimeSession(material.onnx, threads=material.threads)


def prepare_onnx(material: Material) -> None:
    """Write the network as ONNX, unless it is there."""
    if material.onnx.is_file():
        return
    from praxiscope.profiling.runtimes.torch_session import load_module

    write_onnx(load_module(material), material.onnx, img_size=material.img_size)
