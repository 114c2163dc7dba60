"""Export: a run as one ONNX file, compared with the run itself on real samples before it gets its name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from praxiscope import __version__
from praxiscope.data.clips.flow import refuse_flow
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.models.onnx_file import OnnxCard, write_onnx
from praxiscope.models.runtime import tune_allocator
from praxiscope.models.state import compute_weights_sha256
from praxiscope.profiling.accuracy import measure_difference, predict_all
from praxiscope.profiling.clip_stages import ClipPipeline
from praxiscope.profiling.material import NO_CALIBRATION, Images
from praxiscope.profiling.measure import run_in_batches
from praxiscope.profiling.parity import Parity, compare_logits
from praxiscope.profiling.plan import Plan, Subject
from praxiscope.profiling.result import Difference
from praxiscope.profiling.runtimes.int8 import quantize_static
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntimeSession
from praxiscope.profiling.runtimes.session import Precision, Session, explain_missing
from praxiscope.profiling.runtimes.torch_session import TorchSession
from praxiscope.profiling.stages import Pipeline
from praxiscope.recipe.load import load_recipe
from praxiscope.runs import atomic
from praxiscope.runs.environment import count_cores
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.evaluate import SPLITS
from praxiscope.workflows.profile_subjects import open_run

LOSS_ALLOWED = 0.01
"""An 8-bit file that loses more accuracy than this on the split is refused unless forced."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export left behind.

    Attributes:
        path: the file.
        parity: its outputs beside eager's.
        samples: that they were compared on.
        difference: of an 8-bit file, accuracy on the split minus eager's; None in float32.
    """

    path: Path
    parity: Parity
    samples: int
    difference: Difference | None


def export(  # noqa: PLR0913 - one parameter a flag
    run: RunDir | Path | str,
    output: Path | str,
    *,
    int8: bool = False,
    force: bool = False,
    split: str = "val",
    data: Path | str | None = None,
    runs: Path | str = "runs",
    watch: Watcher | None = None,
) -> ExportResult:
    """Write a run's best weights as one ONNX file; nothing is written unless it computes the same.

    It is written aside, run in ONNX Runtime in batches of 1, 3 and 8 on samples of the split, compared with
    the run in eager float32, and renamed. In 8 bits it is calibrated on training images, and its accuracy on
    the whole split is compared too.

    Args:
        run: a run, its folder, or ``recipe@latest``.
        output: the file, ``*.onnx``; replaced if there is one.
        int8: 8-bit weights and activations.
        force: keep an 8-bit file that loses more than ``LOSS_ALLOWED``.
        split: whose samples are compared: ``val``, ``test`` or ``train``.
        data: where the data folder is now, if it has moved.
        runs: folder of all runs, for names.
        watch: follows progress.

    Raises:
        UsageError: no such run or split, or another file name.
        EnvironmentProblem: a package is absent, or the folder can't be made.
        DataError: 8 bits are asked for, and there are no training images.
        IntegrityError: the file doesn't compute the same, or loses too much; there is no file then.
    """
    watch = watch or Silent()
    path = Path(output)
    _validate(path, split)
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(runs))
    tune_allocator()
    refuse_flow(load_recipe(found.recipe), "export")
    plan = Plan(split=split, accuracy=int8, threads=count_cores())
    where = None if data is None else Path(data).expanduser()
    _make_parent(path)
    subject = open_run(found, plan, label=found.path.parent.name, data=where, watch=watch)
    if int8 and not subject.calibration_paths:
        raise DataError(f"{NO_CALIBRATION}. Export without --int8.")
    module: nn.Module = subject.built.module
    if load_recipe(found.recipe).evaluate.flip:
        module = Mirrored(module)
        watch.note(
            "evaluate.flip is on: the file averages each image with its mirror image, as the run does."
        )
    samples = subject.pipeline.read(subject.sample_paths)
    with atomic.replacing(path) as aside:
        watch.phase("writing ONNX", 0, 1)
        write_onnx(
            module,
            aside,
            img_size=subject.pipeline.transform.spec.img_size,
            card=_build_card(subject, found),
        )
        if int8:
            watch.phase("calibrating int8 on training images", 0, 1)
            _quantize(aside, subject)
        parity = _compare(aside, module, samples, "int8" if int8 else "fp32", path, subject.heads)
        difference = _compare_accuracy(aside, module, subject, watch) if int8 else None
        if difference is not None and difference.value < -LOSS_ALLOWED and not force:
            raise IntegrityError(_explain_loss(difference, path, split))
    return ExportResult(path=path.absolute(), parity=parity, samples=len(samples), difference=difference)


class Mirrored(nn.Module):
    """A network whose logits are the mean of those of an image and of its mirror image (``evaluate.flip``).

    Both go through it as one batch, so that a graph holds the network once.

    Args:
        module: takes (B, 3, S, S) or (B, T, 3, S, S), gives (B, K).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K)."""
        logits: torch.Tensor = self.module(torch.cat([images, images.flip(-1)]))
        return logits.reshape(2, -1, logits.shape[1]).mean(0)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem(
            f"Can't make the folder {path.parent}: {problem.strerror}. Choose another place with --output."
        ) from problem


def _validate(path: Path, split: str) -> None:
    if path.suffix != ".onnx":
        raise UsageError(f"--output '{path}': the file's name must end in .onnx.")
    if path.is_dir():
        raise UsageError(f"--output '{path}' is a folder; give a file's name, such as {path / 'model.onnx'}.")
    if split not in SPLITS:
        raise UsageError(f"--split '{split}': choose one of {', '.join(SPLITS)}.")
    missing = explain_missing("onnx", "onnxscript", "onnxruntime")
    if missing is not None:
        raise EnvironmentProblem(f"An export is compared before it is kept, and {missing}.")


def _build_card(subject: Subject, run: RunDir) -> OnnxCard:
    built, spec, heads = subject.built, subject.pipeline.transform.spec, subject.heads
    assert heads is not None
    return OnnxCard(
        head="+".join(heads.names),
        heads=heads.names if len(heads.names) > 1 else None,
        clip=_describe_clips(subject.pipeline),
        names=subject.names,
        img_size=spec.img_size,
        crop_pct=spec.crop_pct,
        interpolation=spec.interpolation,
        mean=built.mean,
        std=built.std,
        weights_sha256=compute_weights_sha256(built.module.state_dict()),
        recipe_name=run.path.parent.name,
        praxiscope_version=__version__,
    )


def _describe_clips(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return what the card says of clips: enough to choose the same frames."""
    if not isinstance(pipeline, ClipPipeline):
        return None
    rule = pipeline.rule
    return {
        "num_frames": rule.num_frames,
        "section": rule.section.model_dump(mode="json"),
        "typical_s": rule.typical_s,
    }


def _quantize(path: Path, subject: Subject) -> None:
    """Replace a float32 file by its 8-bit form, the card kept."""
    import onnx

    images = subject.pipeline.read(subject.calibration_paths)
    with tempfile.TemporaryDirectory(prefix="praxiscope-export-") as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(path, target, images)
        quantized = onnx.load(str(target))
    metadata = onnx.load(str(path), load_external_data=False).metadata_props
    onnx.helper.set_model_props(quantized, {entry.key: entry.value for entry in metadata})
    path.write_bytes(quantized.SerializeToString())


def _compare(
    path: Path, module: nn.Module, samples: Images, precision: Precision, name: Path, heads: Heads | None
) -> Parity:
    expected = run_in_batches(TorchSession(module), samples)
    given = run_in_batches(OnnxRuntimeSession(path, threads=count_cores()), samples)
    parity = compare_logits(expected, given, precision, heads=heads)
    if parity.refusal is not None:
        advice = "Export without --int8." if precision == "int8" else "This network can't be exported."
        raise IntegrityError(
            f"{name} was not written: on {len(samples)} samples {parity.refusal} (largest difference of a "
            f"logit {parity.max_abs_diff:.3g}). {advice}"
        )
    return parity


def _compare_accuracy(path: Path, module: nn.Module, subject: Subject, watch: Watcher) -> Difference:
    labelled = subject.labelled
    assert labelled is not None
    sessions: dict[str, Session] = {
        "eager": TorchSession(module),
        "int8": OnnxRuntimeSession(path, threads=count_cores()),
    }
    preds = predict_all(
        sessions,
        subject.pipeline,
        labelled,
        lambda done, total: watch.phase(f"accuracy on {labelled.split}", done, total),
    )
    return measure_difference(labelled.targets, preds["eager"], preds["int8"], subject.num_classes)


def _explain_loss(difference: Difference, path: Path, split: str) -> str:
    low, value, high = (100 * each for each in (difference.low, difference.value, difference.high))
    return (
        f"{path} was not written: in 8 bits it loses {-value:.1f} points of top-1 on {difference.n} {split} "
        f"samples ({low:+.1f} to {high:+.1f}); {100 * LOSS_ALLOWED:g} is allowed. Export without --int8, or "
        "keep it with --force."
    )
