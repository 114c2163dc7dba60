"""An ONNX file that says itself what it takes and what its outputs mean.

Input ``images``: float32, (B, 3, S, S), of clips (B, T, 3, S, S), normalised. Output ``logits``: float32,
(B, K), of several heads side by side. B is free. Beside the
graph the file carries a card (names, input size, mean and deviation, fingerprint of the weights) under the
metadata key ``praxiscope``, so that it can be used where neither the run nor torch is.

Reading needs the package ``onnx`` alone; torch is imported where a file is written.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.tensors import Heads

if TYPE_CHECKING:
    from torch import nn

CARD_KEY = "praxiscope"
"""Metadata key of the card."""
CARD_SCHEMA = 1
INPUT_NAME = "images"
OUTPUT_NAME = "logits"
_EXPORTERS = ("onnx", "onnxscript")
_TRIPLES = frozenset({"mean", "std"})


@dataclass(frozen=True, kw_only=True)
class OnnxCard:
    """What an ONNX file of Praxiscope says about itself."""

    head: str
    """Name of the target that the logits stand for: ``action``; of several their names, joined by ``+``."""
    names: tuple[str, ...]
    """Label of each logit; length K."""
    img_size: int
    """Side S of the square input in pixels."""
    crop_pct: float
    """Images are resized to a short side of ``img_size / crop_pct``, then the centre is cropped."""
    interpolation: str
    """Filter of that resize: ``bicubic`` or ``bilinear``."""
    mean: tuple[float, float, float]
    """Subtracted from RGB in [0, 1]."""
    std: tuple[float, float, float]
    """Divides RGB in [0, 1] after ``mean``."""
    weights_sha256: str
    """Fingerprint of the weights that were exported."""
    recipe_name: str
    """The run's recipe."""
    praxiscope_version: str
    """Version that wrote the file."""
    heads: Mapping[str, tuple[str, ...]] | None = None
    """Label names of each head, whose logits stand side by side; None where there is one."""
    clip: Mapping[str, Any] | None = None
    """Of a network that takes clips ``num_frames`` (T), ``section`` (which frames, as the recipe's section
    ``clip``) and ``typical_s`` (median length of the training clips in seconds, or null); None of images."""

    def read_heads(self) -> Heads:
        """Return what the logits stand for."""
        return Heads(names=self.heads or {self.head: self.names})

    def to_json(self) -> str:
        """Return the card as the metadata's JSON text."""
        return json.dumps({"schema": CARD_SCHEMA, **asdict(self)}, ensure_ascii=False)


def write_onnx(
    module: nn.Module, path: Path, *, img_size: int, card: OnnxCard | None = None, in_chans: int = 3
) -> None:
    """Write a network as one ONNX file with a free batch size.

    Args:
        module: Takes float images (B, C, S, S), or clips (B, T, C, S, S) where
            :func:`~praxiscope.models.temporal.find_num_frames` finds T; gives logits (B, K); on the CPU, in
            float32. Exported in evaluation mode; its own mode is kept.
        path: The file, replaced if there is one. Write aside and rename where another process may have it
            mapped.
        img_size: S in pixels.
        card: What the file says about itself; None leaves the card out.
        in_chans: C.

    Raises:
        EnvironmentProblem: ``onnx`` or ``onnxscript`` is absent.
        UsageError: The network holds something that ONNX can't express.
    """
    for name in _EXPORTERS:
        if importlib.util.find_spec(name) is None:
            raise EnvironmentProblem(
                f"Writing ONNX needs the package {name}: pip install 'praxiscope[runtimes]'."
            )
    import onnx

    model = _trace(module, img_size, in_chans)
    if card is not None:
        onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    path.write_bytes(model.SerializeToString())


def read_onnx_card(path: Path) -> OnnxCard:
    """Read the card of an ONNX file.

    Raises:
        UsageError: There is no such file.
        DataError: It isn't ONNX, or holds no card (another program wrote it).
        IntegrityError: Its card is damaged.
        EnvironmentProblem: The package ``onnx`` is absent.
    """
    if not path.is_file():
        raise UsageError(f"There is no ONNX file {path}. 'praxiscope export RUN -o {path.name}' writes one.")
    metadata = _read_metadata(path)
    if CARD_KEY not in metadata:
        raise DataError(
            f"{path} doesn't say what its outputs mean: it has no '{CARD_KEY}' entry in its metadata. Files "
            "written by 'praxiscope export' have one."
        )
    return _parse_card(metadata[CARD_KEY], path)


def _read_metadata(path: Path) -> Mapping[str, str]:
    if importlib.util.find_spec("onnx") is None:
        raise EnvironmentProblem("Reading ONNX needs the package onnx: pip install 'praxiscope[runtimes]'.")
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as problem:
        raise DataError(f"{path} is no ONNX file, or a damaged one.") from problem
    if not model.HasField("graph"):  # zero bytes are a valid, empty message
        raise DataError(f"{path} is no ONNX file, or a damaged one.")
    return {entry.key: entry.value for entry in model.metadata_props}


def _parse_card(text: str, path: Path) -> OnnxCard:
    expected = {field.name for field in fields(OnnxCard) if field.default is MISSING}
    try:
        values = json.loads(text)
        schema = values.pop("schema")
        if schema != CARD_SCHEMA:
            raise IntegrityError(
                f"The card of {path} has schema {schema}; this version reads {CARD_SCHEMA}. Export it again."
            )
        if missing := sorted(expected - values.keys()):
            raise IntegrityError(f"The card of {path} lacks {', '.join(missing)}. Export it again.")
        chosen: dict[str, Any] = {name: values[name] for name in expected}
        for name in _TRIPLES:
            first, second, third = (float(value) for value in chosen[name])
            chosen[name] = (first, second, third)
        chosen["names"] = tuple(str(name) for name in chosen["names"])
        chosen["img_size"] = int(chosen["img_size"])
        chosen["crop_pct"] = float(chosen["crop_pct"])
        heads, chosen["clip"] = values.get("heads"), values.get("clip")
        if heads is not None:
            chosen["heads"] = {str(head): tuple(map(str, names)) for head, names in heads.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise IntegrityError(f"The card of {path} is damaged ({problem}). Export it again.") from problem
    return OnnxCard(**chosen)


def _trace(module: nn.Module, img_size: int, in_chans: int) -> Any:
    """Return the network as an ONNX model in memory."""
    import torch

    from praxiscope.models.temporal import find_num_frames

    training = module.training
    module.eval()
    frames = find_num_frames(module)
    # Two images: the tracer takes a batch of one for a constant.
    images = torch.zeros(2, *(() if frames is None else (frames,)), in_chans, img_size, img_size)
    try:
        with torch.no_grad(), _quiet_export():
            program = torch.onnx.export(
                module,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
    except (torch.onnx.errors.OnnxExporterError, torch.onnx.OnnxExporterError) as problem:
        reason = str(problem.__cause__ or problem).strip().splitlines()[0]
        raise UsageError(f"{type(module).__name__} can't be written as ONNX: {reason}") from problem
    finally:
        module.train(training)
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep the exporter's progress lines and its libraries' deprecations from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # torch's exporter, copyreg and onnxscript call each other's deprecated names.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            # A GRU keeps a flat list of its own parameters; they are in the file all the same.
            warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
