"""The arrays of features that a run needs: found in the cache, checked, computed where they are missing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from praxiscope.data.cache_folders import building, building_lock, hold, kind_folder, list_entries, trim
from praxiscope.data.clips.reader import ClipReader, SampleReader
from praxiscope.data.loader import SampleSet, build_loader
from praxiscope.data.plan import BatchPlan, plan_evaluation
from praxiscope.data.transforms import EvalTransform, TrainTransform
from praxiscope.errors import EnvironmentProblem, IntegrityError, UsageError
from praxiscope.evaluation.inputs import choose_batch_size
from praxiscope.models.freeze import fingerprint_frozen
from praxiscope.models.runtime import Normalizer
from praxiscope.models.split import FrozenSplit
from praxiscope.models.temporal import find_num_frames
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.atomic import format_bytes
from praxiscope.runs.environment import count_cores
from praxiscope.tensors import Batch
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.feature_store import (
    FeatureArray,
    FeatureWriter,
    Values,
    compute_size,
    locate_entry,
    open_entry,
)
from praxiscope.training.signals import StopFlag
from praxiscope.training.source import SourceParts

STORED = {"fp32": "float32", "fp16": "float16"}
"""Precision of the recipe to dtype of the array."""

_MIXING = frozenset({"preset", "repeats", "mixup", "cutmix", "mix_prob"})  # not of a single image
_RATES = frozenset({"drop_rate", "drop_path_rate"})  # off in a frozen part
_CHECK_IMAGES = 2
_FULL_DISK = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def draws_nothing(recipe: Recipe) -> bool:
    """Whether a sample looks the same in every epoch, mixing and repetition left aside."""
    augment = recipe.augment
    if recipe.model.num_frames is not None and recipe.clip.sampling != "uniform":
        return False
    fixed_crop = augment.crop_padding == 0 and augment.crop_scale[0] == 1 and len({*augment.crop_ratio}) == 1
    plain = augment.policy == "none" and augment.color_jitter == 0 and augment.random_erasing == 0
    return fixed_crop and plain and augment.hflip in {0.0, 1.0}


def count_views(recipe: Recipe) -> int:
    """Return how many different views of a training image are kept."""
    return 1 if draws_nothing(recipe) else min(recipe.features.views, recipe.train.epochs)


@dataclass(frozen=True, kw_only=True)
class FeatureReader:
    """Makes the batch of a plan out of arrays; epoch e reads view e mod V.

    Attributes:
        samples: the split.
        views: one array for each view; filled before the first batch is asked for.
    """

    samples: SampleSet
    views: list[FeatureArray] = field(default_factory=list)

    def __call__(self, plan: BatchPlan, report: Any, slot: int) -> Batch:
        """Copy the rows out of the file; float, (B, D) or (B, C, H, W)."""
        view = self.views[plan.epoch % len(self.views)]
        report[slot] = plan.rows[0]
        features = torch.from_numpy(np.take(view.values, plan.rows, axis=0))
        report[slot] = -1
        return Batch(
            images=features.permute(0, 3, 1, 2) if view.channels_last else features,
            targets=torch.from_numpy(self.samples.targets[list(plan.rows)]),
            rows=plan.rows,
        )


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One array that the run needs.

    Attributes:
        reader: reads its images.
        view: the epoch whose augmentation it shows.
        mirrored: of the images' mirror images.
        shape: (N, ...), as the network gives it.
        dtype: as stored.
        identity: all that its values follow from.
        label: for people.
    """

    reader: SampleReader
    view: int
    mirrored: bool
    shape: tuple[int, ...]
    dtype: str
    identity: Mapping[str, Any]
    label: str

    @property
    def path(self) -> Path:
        return locate_entry(self.identity)

    @property
    def size_bytes(self) -> int:
        return compute_size(self.shape, self.dtype)


class FeatureCache:
    """The arrays of one run, held for as long as ``held`` is open.

    Args:
        parts: network, recipe, readers.
        digests: sha256 of each sample's content by its id.
        note: told about damaged and removed entries.
        held: keeps entries from being removed.
    """

    def __init__(
        self,
        parts: SourceParts,
        digests: Mapping[str, str],
        *,
        note: Callable[[str], None],
        held: contextlib.ExitStack,
    ) -> None:
        self.train = FeatureReader(samples=parts.train.samples)
        self.val = FeatureReader(samples=parts.val.samples)
        self.mirrored = FeatureReader(samples=parts.val.samples)
        self._parts = parts
        self._digests = digests
        self._note = note
        self._held = held
        self._normalize = Normalizer(parts.built.mean, parts.built.std, parts.runtime)
        self._dtype = torch.float32

    def to_input(self, features: Tensor) -> Tensor:
        """Bring a batch to the device and to the dtype that the network gave."""
        return features.to(device=self._parts.runtime.device, dtype=self._dtype, non_blocking=True)

    def fill(self, split: FrozenSplit, stop: StopFlag) -> FeaturesReport:
        """Open every array, computing those that are missing or damaged.

        Args:
            split: the network with the weights that the run goes on with.
            stop: looked at after each batch.

        Raises:
            EnvironmentProblem: not enough space on the disk or within ``features.max_gib``.
            IntegrityError: the network can't be cut in two without changing its result.
            Preempted, Interrupted: stopped by a signal; finished arrays are kept.
            SampleFailed: a sample can't be read.
        """
        started = time.perf_counter()
        wanted = self._list_wanted(split)
        arrays = {each.label: self._open(each) for each in wanted}
        missing = [each for each in wanted if arrays[each.label] is None]
        self._make_room(sum(each.size_bytes for each in missing))
        for each in missing:
            arrays[each.label] = self._compute(each, split, stop)
        self._hand_out(wanted, [array for array in arrays.values() if array is not None])
        recipe = self._parts.recipe
        return FeaturesReport(
            num_train=len(self.train.samples),
            num_val=len(self.val.samples),
            num_views=len(self.train.views),
            epochs=recipe.train.epochs,
            augmented=not draws_nothing(recipe),
            balanced=recipe.train.sampling == "balanced",
            size_bytes=sum(each.size_bytes for each in wanted),
            num_computed=sum(each.shape[0] for each in missing),
            computed_s=time.perf_counter() - started,
            precision=recipe.features.precision,
            entries=tuple(each.path.name for each in wanted),
        )

    def _hand_out(self, wanted: Sequence[_Wanted], arrays: Sequence[FeatureArray]) -> None:
        for each, array in zip(wanted, arrays, strict=True):
            target = self.mirrored if each.mirrored else self.val
            (self.train if each.reader is self._parts.train else target).views.append(array)
        self._dtype = getattr(torch, arrays[0].computed_as)

    # ---------------------------------------------------------------- what is needed

    def _list_wanted(self, split: FrozenSplit) -> list[_Wanted]:
        parts = self._parts
        network = self._identify_network(split)
        train_shape = self._measure(split, parts.train)
        val_shape = self._measure(split, parts.val)
        views = count_views(parts.recipe)
        wanted = [
            self._want(network, parts.train, train_shape, view=view, label=f"view {view + 1} of {views}")
            for view in range(views)
        ]
        wanted.append(self._want(network, parts.val, val_shape, label="validation"))
        if parts.recipe.evaluate.flip:
            wanted.append(
                self._want(network, parts.val, val_shape, mirrored=True, label="validation, mirrored")
            )
        return wanted

    def _measure(self, split: FrozenSplit, reader: SampleReader) -> tuple[int, ...]:
        """Return the shape of one image's features, and prove on noise that nothing else is needed."""
        side = reader.transform.spec.img_size
        frames = find_num_frames(split.module)
        shape = (_CHECK_IMAGES, *(() if frames is None else (frames,)), 3, side, side)
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self._parts.runtime.device)
        if frames is None:
            images = images.to(memory_format=self._parts.runtime.memory_format)
        with self._parts.runtime.autocast():
            split.check(images)
            return tuple(split.features(images).shape[1:])

    def _identify_network(self, split: FrozenSplit) -> dict[str, Any]:
        parts = self._parts
        kwargs = {k: repr(v) for k, v in sorted(parts.built.timm_kwargs.items()) if k not in _RATES}
        return {
            "weights": _hash_json(fingerprint_frozen(split.module)),
            "network": [parts.built.card.name, parts.built.card.timm_name, kwargs],
            **({"shift_div": shift_div} if (shift_div := parts.recipe.model.shift_div) else {}),
            "part": split.kind,
            "normalize": [list(parts.built.mean), list(parts.built.std)],
            "device": parts.runtime.device.type,
            "precision": parts.runtime.precision,
        }

    def _want(
        self,
        network: Mapping[str, Any],
        reader: SampleReader,
        shape: tuple[int, ...],
        *,
        label: str,
        view: int = 0,
        mirrored: bool = False,
    ) -> _Wanted:
        recipe, transform = self._parts.recipe, reader.transform
        dtype = STORED[recipe.features.precision]
        drawn = isinstance(transform, TrainTransform) and not draws_nothing(recipe)
        identity = {
            **network,
            "transform": _describe_transform(transform),
            **_describe_frames(reader),
            "pack": recipe.data.pack,
            "seed": recipe.seed if drawn else None,
            "view": view,
            "mirrored": mirrored,
            "data": _hash_json([self._digests[sample_id] for sample_id in reader.samples.sample_ids]),
            "dtype": dtype,
        }
        return _Wanted(
            reader=reader, view=view, mirrored=mirrored, shape=(len(reader.samples), *shape), dtype=dtype,
            identity=identity, label=label,
        )  # fmt: skip

    # ---------------------------------------------------------------- what is there

    def _open(self, wanted: _Wanted) -> FeatureArray | None:
        """Hold and open an entry; None where it is missing or damaged."""
        with contextlib.ExitStack() as attempt:
            attempt.enter_context(hold(wanted.path))
            try:
                array = open_entry(wanted.path, num_rows=wanted.shape[0])
            except IntegrityError as problem:
                self._note(f"Cached features are damaged, so they are computed again: {problem}")
                return None
            if array is not None:
                self._held.push(attempt.pop_all())
            return array

    def _make_room(self, needed: int) -> None:
        """Remove the longest unused entries of the cache; refuse what still doesn't fit."""
        if needed == 0:
            return
        folder, max_gib = kind_folder("features"), self._parts.recipe.features.max_gib
        allowed = int(max_gib * 2**30)
        # Before anything is removed: no room that could be made would be enough.
        removed = trim("features", allowed - needed) if needed <= allowed else ()
        if removed:
            size = format_bytes(sum(entry.size_bytes for entry in removed))
            self._note(f"Removed {len(removed)} unused entries ({size}) from {folder} (features.max_gib).")
        used = sum(entry.size_bytes for entry in list_entries("features"))
        if used + needed > allowed:
            raise EnvironmentProblem(
                f"Features that are missing need {format_bytes(needed)} in {folder}; {format_bytes(used)} "
                f"there are in use and features.max_gib allows {max_gib:g} GiB in all. Raise it, set "
                "features.precision=fp16 or fewer features.views, or wait for the other run."
            )
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise _no_space(folder, needed, free)

    # ---------------------------------------------------------------- what is missing

    def _compute(self, wanted: _Wanted, split: FrozenSplit, stop: StopFlag) -> FeatureArray:
        with building_lock(wanted.path):
            array = self._open(wanted)  # another process may have been quicker
            if array is not None:
                return array
            try:
                with building(wanted.path) as folder, FeatureWriter(folder, wanted.dtype) as writer:
                    self._write(wanted, split, writer, stop)
            except OSError as problem:
                if problem.errno not in _FULL_DISK:
                    raise
                folder = kind_folder("features")
                raise _no_space(folder, wanted.size_bytes, shutil.disk_usage(folder).free) from problem
            array = self._open(wanted)
        if array is None:
            raise EnvironmentProblem(
                f"{wanted.path} was just written and can't be read back; look at the disk, or name another "
                "folder in PRAXISCOPE_CACHE."
            )
        return array

    def _write(self, wanted: _Wanted, split: FrozenSplit, writer: FeatureWriter, stop: StopFlag) -> None:
        recipe, count = self._parts.recipe, wanted.shape[0]
        plans = [
            replace(plan, epoch=wanted.view) for plan in plan_evaluation(count, choose_batch_size(recipe))
        ]
        device_type, done = self._parts.runtime.device.type, 0
        channels_last, computed_as = False, torch.float32
        loader = build_loader(wanted.reader, recipe.loader, device_type=device_type, cores=count_cores())
        with loader, torch.inference_mode():
            for batch in loader.batches(plans):
                features = self._run(split, batch, mirrored=wanted.mirrored)
                computed_as = features.dtype
                channels_last = features.dim() == 4 and self._parts.runtime.channels_last
                writer.append(_to_rows(features, wanted.dtype, channels_last=channels_last))
                done += len(batch.rows)
                self._parts.phase(f"computing features, {wanted.label}", done, count)
                if stop.requested and done < count:
                    raise stop.as_error(
                        f"while features were computed ({wanted.label}; parts before it are kept)"
                    )
        writer.finish(
            identity=wanted.identity,
            channels_last=channels_last,
            computed_as=str(computed_as).removeprefix("torch."),
        )

    def _run(self, split: FrozenSplit, batch: Batch, *, mirrored: bool) -> Tensor:
        images = self._normalize(batch.images)
        with self._parts.runtime.autocast():
            return split.features(images.flip(-1) if mirrored else images)


def _to_rows(features: Tensor, dtype: str, *, channels_last: bool) -> Values:
    ordered = features.permute(0, 2, 3, 1) if channels_last else features
    rows: Values = ordered.to(getattr(torch, dtype)).contiguous().cpu().numpy()
    if dtype == "float16" and not np.isfinite(rows).all() and bool(torch.isfinite(features).all()):
        raise UsageError(
            f"features.precision is fp16, which holds numbers up to 65504, and a feature is "
            f"{float(features.abs().max()):.3g}. Set features.precision=fp32."
        )
    return rows


def _describe_transform(transform: TrainTransform | EvalTransform) -> dict[str, Any]:
    spec = asdict(transform.spec)
    if isinstance(transform, EvalTransform):
        return {"kind": "evaluation", **spec}
    settings = transform.augment.model_dump(mode="json")
    augment = {key: value for key, value in settings.items() if key not in _MIXING}
    # Random crops know no share of the image that evaluation keeps.
    del spec["crop_pct"]
    return {"kind": "training", **spec, "augment": augment}


def _describe_frames(reader: SampleReader) -> dict[str, Any]:
    """Return which frames of a clip are looked at; nothing for images, whose entries stay what they were."""
    if not isinstance(reader, ClipReader):
        return {}
    return {"frames": {"num_frames": reader.num_frames, **reader.section.model_dump(mode="json")}}


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _no_space(folder: Path, needed: int, free: int) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"Features need {format_bytes(needed)} in {folder}, where {format_bytes(free)} are free. Free some "
        "space, name another folder in PRAXISCOPE_CACHE, or set features.precision=fp16, fewer "
        "features.views or a smaller model.img_size; then continue with --resume."
    )
