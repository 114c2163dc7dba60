"""Data sets of the stage: what to make (:class:`StageSpec`), and writing it as images or clips.

Layout, the same for images and clips::

    root/train/<action>/<performer>_<nnnn>.jpg        an image, or a folder of frame_000001.jpg ... of a clip
    root/val/..., root/test/...
    root/masks/train/<action>/<performer>_<nnnn>.png  the actor's mask, or a folder of masks
    root/stage.csv                                    one row per sample, the columns of ``COLUMNS``
    root/stage.json                                   spec, version, fingerprints

Performers are never shared between splits. A folder appears under its name only when it is complete.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from praxiscope.data.stage.actions import CLIP_ACTIONS, IMAGE_ACTIONS, Action, find_action
from praxiscope.data.stage.backgrounds import BACKGROUNDS
from praxiscope.data.stage.performers import build_performer
from praxiscope.data.stage.scene import Scene, compose_scene, render_clip, render_image
from praxiscope.errors import DataError, UsageError

STAGE_VERSION = 1
"""Rises whenever equal specs begin to give other pixels."""

COLUMNS: tuple[str, ...] = (
    "path",
    "split",
    "action",
    "verb",
    "noun",
    "performer",
    "mask",
    "background",
    "num_frames",
    "fps",
    "first_phase",
    "last_phase",
    "mirrored",
    "close",
    "azimuth_deg",
    "elevation_deg",
    "field_of_view_deg",
)
"""Columns of stage.csv. ``path`` and ``mask`` are relative to the root with forward slashes; for clips both
name folders. ``fps`` is empty for images. Phases are those of the motion: falling for a reversed action."""

Kind: TypeAlias = Literal["images", "clips"]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""

_FIRST_PERFORMER = {"train": 0, "val": 1000, "test": 2000}
_STALE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """What a stage data set holds. Equal specs give equal bytes on the same library versions.

    Raises:
        UsageError: A value is out of its range, or an action is unknown or named twice.
    """

    seed: int = 0
    """Seeds everything; any non-negative integer."""
    size: int = 96
    """Pixels a side, 16 to 1024. Fingers and phones begin to vanish below 64."""
    actions: tuple[str, ...] | None = None
    """Classes. None: for images the 16 that a still can show, for clips all 18 with both reversed twins."""
    train_per_action: int = 75
    """Samples of each class for training."""
    val_per_action: int = 15
    """Samples of each class for validation; 0 leaves the split out."""
    test_per_action: int = 25
    """Samples of each class for the test; 0 leaves the split out."""
    train_performers: int = 24
    """Number of people in train, 1 to 1000; they take turns."""
    val_performers: int = 6
    """Number of people in val, none of them in train."""
    test_performers: int = 8
    """Number of people in test, none of them in train or val."""
    shortcut: bool = False
    """Plant a shortcut: in train each class has a background of its own (there are 16; from the 17th class
    on they repeat). In val and test backgrounds stay independent of the class. All else is as without it."""
    num_frames: int = 16
    """Frames of a clip, 2 to 300; images ignore it."""
    image_format: Literal["jpg", "png"] = "jpg"
    """``jpg`` (quality 92) or ``png`` (exact pixels). Masks are always PNG."""

    def __post_init__(self) -> None:
        """Check every field."""
        ranges = {
            "seed": (0, 2**63),
            "size": (16, 1024),
            "train_per_action": (1, 9999),
            "val_per_action": (0, 9999),
            "test_per_action": (0, 9999),
            "train_performers": (1, 1000),
            "val_performers": (1, 1000),
            "test_performers": (1, 1000),
            "num_frames": (2, 300),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"StageSpec.{name} is {value}; it must be from {low} to {high}.")
        if self.image_format not in ("jpg", "png"):
            raise UsageError(f"StageSpec.image_format is {self.image_format!r}; choose 'jpg' or 'png'.")
        if self.actions is not None:
            if not self.actions or len(set(self.actions)) != len(self.actions):
                raise UsageError(
                    f"StageSpec.actions is {self.actions!r}; name each action once, and at least one."
                )
            for name in self.actions:
                find_action(name)

    def classes(self, kind: Kind) -> tuple[Action, ...]:
        """Return the actions of a data set of this kind, sorted by name (code points)."""
        default = IMAGE_ACTIONS if kind == "images" else CLIP_ACTIONS
        return tuple(find_action(name) for name in sorted(self.actions or default))

    def fingerprint(self, kind: Kind) -> str:
        """Return the sha256 (hex) of the spec, the kind and the stage's version."""
        text = json.dumps({"kind": kind, "version": STAGE_VERSION, "spec": asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StageSample:
    """One planned sample; cheap until it is rendered."""

    kind: Kind
    split: str
    action: Action
    performer: int
    """Number in the company of the seed."""
    index: int
    """0-based within split and action."""

    @property
    def stem(self) -> str:
        """Path below the root without a suffix."""
        return f"{self.split}/{self.action.name}/p{self.performer:04d}_{self.index:04d}"

    def scene(self, spec: StageSpec) -> Scene:
        """Compose what the sample shows."""
        classes = spec.classes(self.kind)
        tied = spec.shortcut and self.split == "train"
        return compose_scene(
            self.action,
            build_performer(spec.seed, self.performer),
            seed=spec.seed,
            key=(self.kind, self.split, self.action.name, self.index),
            num_frames=spec.num_frames if self.kind == "clips" else None,
            background=BACKGROUNDS[classes.index(self.action) % len(BACKGROUNDS)] if tied else None,
        )


def plan_samples(spec: StageSpec, kind: Kind) -> tuple[StageSample, ...]:
    """Return the samples of a data set in the order of stage.csv: by split, then class, then index."""
    samples = []
    for split, first in _FIRST_PERFORMER.items():
        count, people = getattr(spec, f"{split}_per_action"), getattr(spec, f"{split}_performers")
        for action in spec.classes(kind):
            for index in range(count):
                # Each class begins with another performer, so that small sets don't favour the first ones.
                performer = first + (index + 5 * CLIP_ACTIONS.index(action.name)) % people
                samples.append(
                    StageSample(kind=kind, split=split, action=action, performer=performer, index=index)
                )
    return tuple(samples)


def write_stage_images(root: Path | str, spec: StageSpec, *, progress: Progress | None = None) -> Path:
    """Write an image data set.

    Args:
        root: Folder to make. If it holds this spec's finished data already, nothing is done.
        spec: What to make.
        progress: Told after every sample.

    Returns:
        ``root`` as an absolute path.

    Raises:
        DataError: The folder holds something else.
    """
    return _write(Path(root), spec, "images", progress)


def write_stage_clips(root: Path | str, spec: StageSpec, *, progress: Progress | None = None) -> Path:
    """Write a clip data set, each clip a folder of frames; arguments as :func:`write_stage_images`."""
    return _write(Path(root), spec, "clips", progress)


@dataclass
class _Writer:
    """Writes files below a folder and keeps a running hash of their paths and bytes."""

    root: Path
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())


def _write(root: Path, spec: StageSpec, kind: Kind, progress: Progress | None) -> Path:
    root = root.absolute()
    fingerprint = spec.fingerprint(kind)
    if _is_finished(root, fingerprint):
        return root
    samples = plan_samples(spec, kind)
    with _built_aside(root, fingerprint) as folder:
        writer = _Writer(folder)
        rows = []
        for done, sample in enumerate(samples, start=1):
            rows.append(_write_sample(writer, sample, spec))
            if progress is not None:
                progress("stage", done, len(samples))
        table = io.StringIO(newline="")
        lines = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
        writer.write("stage.csv", table.getvalue().encode())
        summary = {
            "schema": 1,
            "kind": kind,
            "stage_version": STAGE_VERSION,
            "spec": asdict(spec),
            "fingerprint": fingerprint,
            "content_sha256": writer.digest.hexdigest(),
            "num_samples": len(samples),
            "heads": {
                "action": [action.name for action in spec.classes(kind)],
                "verb": sorted({str(row["verb"]) for row in rows}),
                "noun": sorted({str(row["noun"]) for row in rows}),
            },
            "libraries": {"numpy": np.__version__, "pillow": PIL.__version__},
        }
        (folder / "stage.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return root


def _write_sample(writer: _Writer, sample: StageSample, spec: StageSpec) -> dict[str, object]:
    scene = sample.scene(spec)
    fps = ""
    if sample.kind == "images":
        shot = render_image(scene, size=spec.size)
        path, mask = f"{sample.stem}.{spec.image_format}", f"masks/{sample.stem}.png"
        writer.write(path, _encoded(shot.image, spec.image_format))
        writer.write(mask, _encoded(shot.mask, "png"))
    else:
        clip = render_clip(scene, size=spec.size)
        path, mask, fps = sample.stem, f"masks/{sample.stem}", str(clip.fps)
        for number, (frame, cover) in enumerate(zip(clip.frames, clip.masks, strict=True), start=1):
            writer.write(f"{path}/frame_{number:06d}.{spec.image_format}", _encoded(frame, spec.image_format))
            writer.write(f"{mask}/frame_{number:06d}.png", _encoded(cover, "png"))
    return {
        "path": path,
        "split": sample.split,
        "action": sample.action.name,
        "verb": sample.action.verb,
        "noun": scene.noun,
        "performer": scene.performer.name,
        "mask": mask,
        "background": scene.background.name,
        "num_frames": len(scene.phases),
        "fps": fps,
        "first_phase": f"{scene.phases[0]:.4f}",
        "last_phase": f"{scene.phases[-1]:.4f}",
        "mirrored": int(scene.style.mirrored),
        "close": int(scene.close),
        "azimuth_deg": f"{scene.camera.azimuth:.1f}",
        "elevation_deg": f"{scene.camera.elevation:.1f}",
        "field_of_view_deg": f"{scene.camera.field_of_view:.1f}",
    }


def _encoded(pixels: npt.NDArray[np.uint8], image_format: str) -> bytes:
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    if image_format == "jpg":
        image.save(data, "JPEG", quality=92)
    else:
        image.save(data, "PNG", compress_level=4)
    return data.getvalue()


def _is_finished(root: Path, fingerprint: str) -> bool:
    """Whether the folder holds this data; DataError when it holds something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / "stage.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found == fingerprint:
        return True
    what = "a stage data set of another spec or version" if found else "something else than a stage data set"
    raise DataError(
        f"{root} already holds {what}. Name a folder that doesn't exist yet, or remove this one first."
    )


@contextmanager
def _built_aside(root: Path, fingerprint: str) -> Iterator[Path]:
    """Yield a temporary sibling that becomes ``root`` when the block ends well, and vanishes otherwise."""
    root.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{root.name}.partial-"
    for stale in root.parent.glob(f"{prefix}*"):  # left by a run that was killed
        if time.time() - stale.stat().st_mtime > _STALE_S:
            shutil.rmtree(stale, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=prefix, dir=root.parent))
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())
        if root.is_dir() and not any(root.iterdir()):
            root.rmdir()  # Windows doesn't rename onto a folder, even an empty one
        try:
            aside.rename(root)
        except OSError:
            # Another process may have finished the same data meanwhile; then ours isn't needed.
            if not _is_finished(root, fingerprint):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    """Read the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
