"""An ONNX file as a :class:`~praxiscope.prediction.predictors.Network`, by ONNX Runtime, without torch."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from praxiscope.data.clips.views import ClipRule
from praxiscope.data.transforms import EvalTransform, InputSpec, Interpolation
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.models.onnx_file import CARD_KEY, OnnxCard, read_onnx_card
from praxiscope.prediction.predictors import Images, Logits, Network
from praxiscope.recipe.schema import ClipSection

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DEFAULT_SIZE, _DEFAULT_CROP_PCT = 224, 0.875
_BATCH_SIZE = 32


def open_onnx(path: Path, *, names: tuple[str, ...] | None, threads: int) -> tuple[Network, str | None]:
    """Open an ONNX file.

    Args:
        path: The file.
        names: Label names, for a file of another program that has no card; else None.
        threads: CPU threads of a forward pass.

    Returns:
        The network, and a sentence that says what had to be assumed about a file without a card.

    Raises:
        EnvironmentProblem: ONNX Runtime is absent.
        UsageError: There is no such file; a card and names are both given; neither is; the input is no square
            RGB image.
        DataError: It is no ONNX file that ONNX Runtime can run.
        IntegrityError: Its card is damaged.
    """
    session = _start_session(path, threads)
    source = session.get_inputs()[0]
    if CARD_KEY in session.get_modelmeta().custom_metadata_map:
        if names is not None:
            raise UsageError(f"{path} says itself what its labels are; leave --names out.")
        card, warning = read_onnx_card(path), None
    else:
        card, warning = _assume_card(path, source, names)
    spec = InputSpec(
        img_size=card.img_size,
        interpolation=cast("Interpolation", card.interpolation),
        crop_pct=card.crop_pct,
        mean=card.mean,
    )
    network = Network(
        label=path.name,
        source=path,
        heads=card.read_heads(),
        transform=EvalTransform(spec=spec),
        compute=_Computer(session, source.name, card),
        batch_size=source.shape[0] if isinstance(source.shape[0], int) else _BATCH_SIZE,
        weights_sha256=card.weights_sha256 or None,
        clip=None if card.clip is None else _read_rule(card.clip, path),
    )
    return network, warning


def _read_rule(clip: Mapping[str, Any], path: Path) -> ClipRule:
    """Return which frames a card says the network looks at."""
    try:
        return ClipRule(
            num_frames=int(clip["num_frames"]),
            section=ClipSection.model_validate(clip["section"]),
            typical_s=None if clip["typical_s"] is None else float(clip["typical_s"]),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise IntegrityError(
            f"The card of {path} is damaged (clip: {problem}). Export it again."
        ) from problem


class _Computer:
    """uint8 images -> logits, normalised as :class:`praxiscope.models.runtime.Normalizer` does."""

    def __init__(self, session: Any, input_name: str, card: OnnxCard) -> None:
        self._session = session
        self._input = input_name
        shape = (1, 3, 1, 1)
        self._scale = np.array([1 / (255 * s) for s in card.std], np.float32).reshape(shape)
        self._shift = np.array(
            [-m / s for m, s in zip(card.mean, card.std, strict=True)], np.float32
        ).reshape(shape)
        first = session.get_inputs()[0].shape[0]
        self._fixed_batch: int | None = first if isinstance(first, int) else None

    def __call__(self, images: Images) -> Logits:
        values = np.ascontiguousarray(np.moveaxis(images, -1, -3)).astype(np.float32)
        values *= self._scale
        values += self._shift
        if self._fixed_batch is None:
            return self._run(values)
        # A file of one batch size gets whole batches; what fills the last one is thrown away.
        count, size = len(values), self._fixed_batch
        parts = []
        for start in range(0, count, size):
            part = values[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self._run(padded)[: len(part)])
        return np.concatenate(parts)

    def _run(self, values: Any) -> Logits:
        (logits, *_) = self._session.run(None, {self._input: values})
        return np.array(logits, np.float32)


def _start_session(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise UsageError(f"There is no ONNX file {path}. 'praxiscope export RUN -o {path.name}' writes one.")
    if importlib.util.find_spec("onnxruntime") is None:
        raise EnvironmentProblem(
            "Predicting with an ONNX file needs the package onnxruntime: pip install 'praxiscope[runtimes]'."
        )
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    onnxruntime.disable_telemetry_events()  # Windows builds send usage data otherwise
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # warnings about the graph's optimisation concern its writer
    problems = tuple(
        getattr(states, name)
        for name in (
            "Fail",
            "InvalidProtobuf",
            "InvalidGraph",
            "InvalidArgument",
            "NoSuchFile",
            "NotImplemented",
        )
        if hasattr(states, name)
    )
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes() if path.stat().st_size == 0 else str(path),
            options,
            providers=["CPUExecutionProvider"],
        )
    except (*problems, ValueError, RuntimeError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise DataError(f"{path} can't be run by ONNX Runtime: {reason}") from problem


def _assume_card(path: Path, source: Any, names: tuple[str, ...] | None) -> tuple[OnnxCard, str]:
    if names is None:
        raise UsageError(
            f"{path} doesn't say what its outputs mean (praxiscope export writes files that do). Give "
            "--names FILE, a text file with one label a line in the order of the outputs."
        )
    shape = source.shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3) or source.type != "tensor(float)":
        raise UsageError(
            f"{path} takes {source.type} of shape {shape}; predict feeds float images (batch, 3, size, size)."
        )
    sides = [side for side in shape[2:] if isinstance(side, int)]
    if len(set(sides)) > 1:
        raise UsageError(f"{path} takes images of {shape[2]} x {shape[3]}; predict feeds square ones.")
    size = sides[0] if sides else _DEFAULT_SIZE
    card = OnnxCard(
        head="action",
        names=names,
        img_size=size,
        crop_pct=_DEFAULT_CROP_PCT,
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        weights_sha256="",
        recipe_name=path.stem,
        praxiscope_version="",
    )
    warning = (
        f"{path} has no card: ASSUMED ImageNet's preprocessing (short side "
        f"{int(size / _DEFAULT_CROP_PCT)} px, centre crop {size} px, bicubic, mean {IMAGENET_MEAN}, std "
        f"{IMAGENET_STD}) and the {len(names)} names given. If the model was trained on anything "
        "else, what it says here is wrong."
    )
    return card, warning


def read_names(path: Path) -> tuple[str, ...]:
    """Read label names from a text file, one a line.

    Raises:
        UsageError: There is no such file, it is no text, holds no name, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as problem:
        raise UsageError(f"--names {path}: there is no such file.") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"--names {path}: is no UTF-8 text ({problem.reason}).") from problem
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise UsageError(f"--names {path}: holds no label names; it needs one a line.")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"--names {path}: names '{twice}' twice; each line is one class.")
    return names
