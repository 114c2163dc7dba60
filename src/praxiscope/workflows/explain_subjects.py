"""What ``explain`` is given, turned into a network, samples and the pixels that the network sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.flow import refuse_flow
from praxiscope.data.clips.views import ClipRule
from praxiscope.data.loader import SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest, quantify, read_manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.evaluation.inputs import build_input_spec
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.explaining.index import Crop, Reason
from praxiscope.explaining.subject import Subject, build_subject
from praxiscope.models.runtime import tune_allocator
from praxiscope.models.state import compute_weights_sha256
from praxiscope.prediction.sources import VIDEO_SUFFIXES
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.calibration import compute_softmax
from praxiscope.training.watch import Watcher
from praxiscope.workflows.evaluate import SPLITS, choose_stored_runtime, load_best_epoch

DISPLAY_SIDE = 480
"""Longest side in pixels of the whole picture beside its explanations."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A run, opened to be explained.

    Attributes:
        run: the run.
        subject: its network with its best weights.
        samples: the split that samples are drawn from.
        split: its name.
        recipe: the run's.
        manifest: the run's, with the data folder as it is now.
        transform: gives the evaluated crop.
        epoch: of the weights.
        weights_sha256: of the weights.
    """

    run: RunDir
    subject: Subject
    samples: SampleSet
    split: str
    recipe: Recipe
    manifest: Manifest
    transform: EvalTransform
    epoch: int
    weights_sha256: str

    @property
    def features_key(self) -> str:
        """What the features of its images follow from: weights, data, preprocessing."""
        content = [self.weights_sha256, self.manifest.fingerprint, asdict(self.transform.spec)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def clip_rule(self) -> ClipRule | None:
        """Which frames of a clip the network looks at; None where it takes images."""
        if not self.manifest.holds_clips:
            return None
        assert self.recipe.model.num_frames is not None  # set where training begins
        return ClipRule(num_frames=self.recipe.model.num_frames, section=self.recipe.clip)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One picture to explain.

    Attributes:
        sample_id: of the manifest; of a picture from elsewhere its path.
        root: folder that ``path`` is relative to.
        path: as in the manifest.
        target: index of its label; None where it has none.
        split: of the manifest; None for a picture from elsewhere.
        reason: why it was chosen.
    """

    sample_id: str
    root: Path
    path: str
    target: int | None
    split: str | None
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture that could be read.

    Attributes:
        chosen: which one.
        image: uint8 (S, S, 3), the crop that evaluation feeds to the network.
        crop: where it lies in the picture.
        original: uint8 (H, W, 3), the whole picture with its longest side at most ``DISPLAY_SIDE``.
    """

    chosen: Chosen
    image: npt.NDArray[np.uint8]
    crop: Crop
    original: npt.NDArray[np.uint8]


def open_explained(
    run: RunDir, *, device: str | None, data: Path | str | None, split: str, watch: Watcher
) -> Explained:
    """Open a run's best weights and a split of its data.

    Args:
        run: the run.
        device: as for ``train``.
        data: where the data folder is now, if it has moved.
        split: ``test``, ``val`` or ``train``.
        watch: follows progress.

    Raises:
        UsageError: no such split, device or data folder.
        DataError: the split is empty.
        IntegrityError: no sound checkpoint.
    """
    if split not in SPLITS:
        raise UsageError(f"--split '{split}': choose one of {', '.join(SPLITS)}.")
    tune_allocator()
    recipe, manifest = load_recipe(run.recipe), read_manifest(run.manifest)
    if data is not None or manifest.root.is_dir():
        manifest = manifest.with_root(Path(data).expanduser() if data is not None else manifest.root)
    run_json = run.read_run_json()
    samples = build_sample_set(manifest, split, without=run_json.get("quarantined", []))
    refuse_flow(recipe, "explain")
    built, epoch = load_best_epoch(run, recipe, manifest, watch)
    weights_sha256 = compute_weights_sha256(built.module.state_dict())
    runtime = choose_stored_runtime(run_json["environment"], built, device)
    if recipe.evaluate.flip:
        watch.note("evaluate.flip is on: explanations are of the image alone, not of its mirror image too.")
    spec = build_input_spec(built, recipe, evaluation=True)
    label = f"{run.path.parent.name}/{run.run_id}"
    if len(manifest.heads) > 1 and not manifest.holds_clips:
        raise UsageError(
            f"{label} has the heads {' and '.join(manifest.heads)}; images are explained for one label a "
            "sample. Train a run on one of them (data.heads) to explain it."
        )
    names = tuple(name for own in samples.heads.names.values() for name in own)
    return Explained(
        run=run,
        subject=build_subject(built, runtime, names, label, img_size=spec.img_size),
        samples=samples,
        split=split,
        recipe=recipe,
        manifest=manifest,
        transform=EvalTransform(spec=spec),
        epoch=epoch,
        weights_sha256=weights_sha256,
    )


def choose_named(explained: Explained, names: Sequence[str | Path]) -> list[Chosen]:
    """Return the samples and pictures that a person named, in that order, each once.

    Raises:
        UsageError: One is neither a sample nor a picture.
    """
    if not names:
        return []
    table = explained.manifest.table
    ids = table["sample_id"].to_pylist()
    places = {sample_id: row for row, sample_id in enumerate(ids)}
    columns = (table[name].to_pylist() for name in ("path", "split", _only_head(explained)))
    rows = list(zip(ids, *columns, strict=True))
    files = {path: row for row, (_, path, _, _) in enumerate(rows)}
    chosen = {}
    for name in map(str, names):
        row = places.get(name)
        if row is None:
            path = _require_picture(name, ids)
            row = files.get(_below(path, explained.manifest.root))
            if row is None:
                place = str(path.resolve())
                chosen[place] = Chosen(
                    sample_id=place, root=path.parent, path=path.name, target=None, split=None, reason="named"
                )
                continue
        sample_id, path_in_data, split, label = rows[row]
        names_of = explained.samples.names
        chosen[sample_id] = Chosen(
            sample_id=sample_id,
            root=explained.manifest.root,
            path=path_in_data,
            target=names_of.index(label) if label in names_of else None,
            split=split,
            reason="named",
        )
    return list(chosen.values())


def choose_random(explained: Explained, count: int, *, seed: int, without: set[str]) -> list[Chosen]:
    """Draw samples of the split, each at most once.

    Args:
        explained: The run.
        count: How many; all that are left where there are fewer.
        seed: Decides the draw.
        without: Sample ids that are chosen already.
    """
    rows = np.random.default_rng(seed).permutation(len(explained.samples)).tolist()
    kept = [row for row in rows if explained.samples.sample_ids[row] not in without][:count]
    return [_choose_row(explained, row, "random") for row in kept]


def choose_failures(explained: Explained, count: int, *, without: set[str]) -> list[Chosen]:
    """Return the failures that the run was most confident about, most confident first.

    Raises:
        DataError: There are no predictions of these weights on the split.
    """
    predictions, head = read_own_predictions(explained), _only_head(explained)
    probs = compute_softmax(predictions.logits(head))
    preds, targets = predictions.preds(head), predictions.targets(head)
    wrong = np.flatnonzero(preds != targets)
    ranked = wrong[np.argsort(-probs[wrong, preds[wrong]], kind="stable")].tolist()
    places = {sample_id: row for row, sample_id in enumerate(explained.samples.sample_ids)}
    ids = [predictions.sample_ids[row] for row in ranked]
    kept = [sample_id for sample_id in ids if sample_id in places and sample_id not in without][:count]
    return [_choose_row(explained, places[sample_id], "failure") for sample_id in kept]


def read_own_predictions(explained: Explained) -> Predictions:
    """Read the run's predictions on the split.

    Raises:
        DataError: There are none, or they are of other weights.
        IntegrityError: The table is damaged.
    """
    path = explained.run.predictions(explained.split)
    advice = f"First: praxiscope evaluate {explained.run.path} --split {explained.split}"
    if not path.is_file():
        raise DataError(
            f"{explained.run.path} has no predictions on {explained.split}, so its failures aren't known. "
            + advice
        )
    predictions = read_predictions(path)
    if predictions.info.weights_sha256 != explained.weights_sha256:
        raise DataError(
            f"The predictions of {explained.run.path} on {explained.split} are of other weights than its "
            f"best ones now. {advice}"
        )
    return predictions


def read_evaluated(explained: Explained, chosen: Chosen) -> npt.NDArray[np.uint8]:
    """Read the crop that evaluation feeds to the network, uint8 (S, S, 3).

    Raises:
        ImageUnreadable: The picture can't be read.
    """
    decoded = decode_sample(
        chosen.root,
        chosen.path,
        target_size=explained.transform.decode_size,
        max_pixels=explained.recipe.loader.max_pixels,
    )
    return np.ascontiguousarray(explained.transform(decoded))


def read_picture(explained: Explained, chosen: Chosen) -> Seen:
    """Read a picture as evaluation does, and once more whole, to be shown.

    Raises:
        ImageUnreadable: It can't be read.
    """
    image = read_evaluated(explained, chosen)
    whole = decode_sample(
        chosen.root, chosen.path, target_size=DISPLAY_SIDE, max_pixels=explained.recipe.loader.max_pixels
    )
    whole.thumbnail((DISPLAY_SIDE, DISPLAY_SIDE), Image.Resampling.LANCZOS)
    return Seen(
        chosen=chosen,
        image=image,
        crop=find_crop(whole.size, explained.transform),
        original=np.array(whole),
    )


def find_crop(size: tuple[int, int], transform: EvalTransform) -> Crop:
    """Return where the evaluated square lies in a picture of (width, height) pixels."""
    left, top, right, _ = transform.find_box(size)
    return Crop(
        width=size[0],
        height=size[1],
        left=left,
        top=top,
        side=right - left,
        img_size=transform.spec.img_size,
    )


def _choose_row(explained: Explained, row: int, reason: Reason) -> Chosen:
    samples = explained.samples
    return Chosen(
        sample_id=samples.sample_ids[row],
        root=samples.root,
        path=samples.paths[row],
        target=int(samples.targets[row]),
        split=explained.split,
        reason=reason,
    )


def _only_head(explained: Explained) -> str:
    """Return the name of the only head; of several there is a refusal before a picture is chosen."""
    (head,) = explained.manifest.heads
    return head


def _below(path: Path, root: Path) -> str:
    resolved, root = path.resolve(), root.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else ""


def _require_picture(name: str, ids: Sequence[str]) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        raise UsageError(f"'{name}' is a folder; name pictures or sample ids, or draw some with --random.")
    if not path.is_file():
        raise UsageError(
            f"'{name}' is neither a sample of the run ({quantify(len(ids), 'id')}, such as '{ids[0]}') nor a "
            f"file.{_suggest(name, ids)}"
        )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise UsageError(
            f"'{name}' is a video, and this run's network looks at images. Cut frames out of it and name "
            "those (.jpg, .png, .webp ...)."
        )
    return path


def _suggest(name: str, ids: Sequence[str]) -> str:
    """Look for the nearest id among those with the same file name first: there may be a million ids."""
    tail = Path(name).name
    same = [sample_id for sample_id in ids if sample_id.rsplit("/", 1)[-1] == tail]
    near = [sample_id for sample_id in ids if sample_id[:1] == name[:1]][:20_000]
    return did_you_mean(name, same) or did_you_mean(name, near or ids[:20_000])
