"""Weights and activations in 8 bits: ranges found at each call (dynamic) or on images before (static)."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from praxiscope.models.onnx_file import INPUT_NAME
from praxiscope.profiling.material import Images, Material
from praxiscope.profiling.runtimes.no_telemetry import import_nncf, import_openvino
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntimeSession, prepare_onnx
from praxiscope.profiling.runtimes.openvino import OpenVinoSession
from praxiscope.profiling.runtimes.session import Precision, Session, explain_missing


@dataclass(frozen=True)
class OnnxRuntimeDynamic:
    """ONNX Runtime, ranges found at each call: quick for transformers, slow for convolutions."""

    name: str = "onnxruntime-int8-dynamic"
    precision: Precision = "int8"

    def explain_absence(self) -> str | None:
        """Return what to install."""
        return explain_missing("onnx", "onnxscript", "onnxruntime")

    def prepare(self, material: Material) -> None:
        """Quantise the weights."""
        prepare_onnx(material)
        path = _dynamic_path(material)
        if not path.is_file():
            quantize_dynamic(material.onnx, path)

    def open(self, material: Material) -> Session:
        """Open the quantised file."""
        return OnnxRuntimeSession(_dynamic_path(material), threads=material.threads)


@dataclass(frozen=True)
class OnnxRuntimeStatic:
    """ONNX Runtime, ranges of activations calibrated on training images."""

    name: str = "onnxruntime-int8-static"
    precision: Precision = "int8"

    def explain_absence(self) -> str | None:
        """Return what to install."""
        return explain_missing("onnx", "onnxscript", "onnxruntime")

    def prepare(self, material: Material) -> None:
        """Calibrate and quantise."""
        prepare_onnx(material)
        path = _static_path(material)
        if not path.is_file():
            quantize_static(material.onnx, path, material.read_calibration())

    def open(self, material: Material) -> Session:
        """Open the quantised file."""
        return OnnxRuntimeSession(_static_path(material), threads=material.threads)


@dataclass(frozen=True)
class OpenVinoInt8:
    """OpenVINO, calibrated on training images by nncf."""

    name: str = "openvino-int8"
    precision: Precision = "int8"

    def explain_absence(self) -> str | None:
        """Return what to install."""
        return explain_missing("onnx", "onnxscript", "openvino", "nncf")

    def prepare(self, material: Material) -> None:
        """Calibrate and quantise."""
        prepare_onnx(material)
        path = _openvino_path(material)
        if path.is_file():
            return
        images = material.read_calibration()
        openvino = import_openvino()
        with _silenced():
            nncf = import_nncf()
        with _silenced():
            quantized = nncf.quantize(
                openvino.Core().read_model(str(material.onnx)),
                nncf.Dataset([image[None] for image in images]),
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER if material.transformer else None,
            )
        openvino.save_model(quantized, str(path), compress_to_fp16=False)

    def open(self, material: Material) -> Session:
        """Compile the quantised network for this CPU."""
        return OpenVinoSession(_openvino_path(material), threads=material.threads, hint="f32")


def quantize_dynamic(source: Path, target: Path) -> None:
    """Write an ONNX file with 8-bit weights, activations quantised at each call.

    Args:
        source: float32 ONNX file.
        target: the file to write.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    # Unsigned: ONNX Runtime's integer convolution on CPUs knows no signed weights.
    with _silenced():
        quantize(source, target, weight_type=QuantType.QUInt8)


def quantize_static(source: Path, target: Path, images: Images) -> None:
    """Write an ONNX file with 8-bit weights and activations, ranges calibrated on images.

    Args:
        source: float32 ONNX file.
        target: the file to write.
        images: (N, 3, S, S) normalised training images.
    """
    from onnxruntime.quantization import QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = target.with_name(f"{target.stem}-folded.onnx")
    with _silenced():
        # Folds BatchNorm into convolutions; symbolic shapes would need sympy and change nothing here.
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        quantize(
            folded,
            target,
            _CalibrationImages(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Without VNNI two products of 8 bits are added in 16 and saturate; 7-bit weights don't.
            reduce_range=not has_vnni(),
        )
    folded.unlink(missing_ok=True)


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for 8-bit products; False where the system doesn't tell."""
    try:
        return "vnni" in cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False


class _CalibrationImages:
    """Hands out one image after the other, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Images) -> None:
        self._remaining = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        image = next(self._remaining, None)
        return None if image is None else {INPUT_NAME: image[None]}

    def __len__(self) -> int:
        return 0


def _dynamic_path(material: Material) -> Path:
    return material.folder / "dynamic-int8.onnx"


def _static_path(material: Material) -> Path:
    return material.folder / "static-int8.onnx"


def _openvino_path(material: Material) -> Path:
    return material.folder / "openvino-int8.xml"


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the quantisers' progress bars, advice and deprecations from the user."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.disable(previous)
