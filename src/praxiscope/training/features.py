"""Features of a frozen backbone: computed once for each augmented view, kept on disk, trained from.

The loop stays as it is: it gets batches of features instead of images, and the head instead of the whole
network. Order of samples, dropout, schedule, loss, averaging and checkpoints are what they are without a
cache, so the result is the same where the views are those that the epochs would have drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.data.cache_folders import kind_folder
from praxiscope.data.loader import Loader
from praxiscope.data.manifest import quantify
from praxiscope.errors import UsageError
from praxiscope.evaluation.inputs import choose_batch_size
from praxiscope.evaluation.predict import compute_logits
from praxiscope.models.build import BuiltModel
from praxiscope.models.freeze import BACKBONE
from praxiscope.models.split import split_frozen
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.atomic import format_bytes
from praxiscope.training.feature_cache import STORED, FeatureCache, count_views
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.feature_store import compute_size
from praxiscope.training.signals import StopFlag
from praxiscope.training.source import Source, SourceParts
from praxiscope.training.state import TrainState


def require_cacheable(recipe: Recipe, built: BuiltModel, *, num_train: int, num_val: int) -> None:
    """Refuse what can't be trained from cached features; does nothing without ``features.views``.

    Args:
        recipe: what is asked for.
        built: its network, on any device.
        num_train: images of the training split.
        num_val: images of the validation split.

    Raises:
        UsageError: the backbone trains, images are mixed or repeated, or the features need more space than
            ``features.max_gib``; names the key.
    """
    views, augment = recipe.features.views, recipe.augment
    if views == 0:
        return
    if BACKBONE not in recipe.model.freeze:
        raise UsageError(
            f"features.views is {views}, but model.freeze is {list(recipe.model.freeze)}: only the "
            f"features of a frozen backbone stay the same. Set model.freeze=[{BACKBONE}], or "
            "features.views=0."
        )
    for key in ("mixup", "cutmix"):
        if getattr(augment, key) > 0 and augment.mix_prob > 0:
            raise UsageError(
                f"features.views is {views} and augment.{key} is {getattr(augment, key):g}: mixing blends "
                "images before the backbone, and cached features come after it. Set "
                f"augment.{key}=0, or features.views=0."
            )
    if recipe.model.num_frames is not None and recipe.clip.num_clips * recipe.clip.num_crops > 1:
        raise UsageError(
            f"features.views is {views} and clip.num_clips is {recipe.clip.num_clips}, clip.num_crops "
            f"{recipe.clip.num_crops}: features are cached of one view of a clip. Set both to 1, or "
            "features.views=0."
        )
    if augment.repeats > 1:
        raise UsageError(
            f"features.views is {views} and augment.repeats is {augment.repeats}: the repeated draws of a "
            "sample would be one and the same view. Set augment.repeats=1, or features.views=0."
        )
    _refuse_too_large(recipe, _measure_shapes(recipe, built), num_train=num_train, num_val=num_val)


def _measure_shapes(recipe: Recipe, built: BuiltModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of one image's features, in training and in validation."""
    sides = {"train": built.img_size, "val": recipe.evaluate.img_size or built.img_size}
    split, device = split_frozen(built.module), next(built.module.parameters()).device
    frames = () if recipe.model.num_frames is None else (recipe.model.num_frames,)
    shapes = {}
    for name, side in sides.items():
        with torch.inference_mode():
            image = torch.zeros(1, *frames, 3, side, side, device=device)
            shapes[name] = tuple(split.features(image).shape[1:])
    return shapes


def _refuse_too_large(
    recipe: Recipe, shapes: Mapping[str, Sequence[int]], *, num_train: int, num_val: int
) -> None:
    dtype, views = STORED[recipe.features.precision], count_views(recipe)
    counts = {"train": views * num_train, "val": (2 if recipe.evaluate.flip else 1) * num_val}
    needed = sum(compute_size((counts[name], *shape), dtype) for name, shape in shapes.items())
    if needed > recipe.features.max_gib * 2**30:
        images = f"{num_train} images x {quantify(views, 'view')} and of {num_val} validation images"
        raise UsageError(
            f"features.views is {recipe.features.views}: features of {images} need {format_bytes(needed)} in "
            f"{kind_folder('features')}; features.max_gib allows {recipe.features.max_gib:g} GiB. Set "
            "features.precision=fp16, fewer features.views or a smaller model.img_size, or raise "
            "features.max_gib."
        )


class _HeadOf(nn.Module):
    """A network's head, which takes features for the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.head = split_frozen(network).head
        self.training = network.training

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits


@contextlib.contextmanager
def open_features(
    parts: SourceParts,
    digests: Mapping[str, str],
    *,
    note: Callable[[str], None],
    announce: Callable[[FeaturesReport], None],
) -> Iterator[Source]:
    """Train from cached features; leaving the context lets go of the cache's entries.

    Nothing is computed before ``Source.prepare``: a resumed run's weights come from its checkpoint.

    Args:
        parts: as for images.
        digests: sha256 of each sample's content by its id.
        note: told about damaged entries.
        announce: told what was cached.
    """
    with contextlib.ExitStack() as held:
        cache = FeatureCache(parts, digests, note=note, held=held)
        threads = 0 if parts.recipe.loader.workers == 0 else 1
        loaders = [
            held.enter_context(Loader(reader, parts.recipe.loader, workers=threads, process=False))
            for reader in (cache.train, cache.val, cache.mirrored)
        ]
        split = split_frozen(parts.built.module)

        # The loop sets the mode of the network, of which this head is no part.
        def follow_mode(head: nn.Module, _inputs: object) -> None:
            head.train(parts.built.module.training)

        split.head.register_forward_pre_hook(follow_mode)

        def prepare(state: TrainState, stop: StopFlag) -> None:
            report = parts.world.first_before_others(lambda: cache.fill(split, stop))
            state.train_s += report.computed_s
            announce(report)

        def predict(network: nn.Module) -> npt.NDArray[np.float32]:
            head = _HeadOf(network)
            logits = [
                compute_logits(
                    head,
                    loader,
                    num_samples=len(parts.val.samples),
                    batch_size=choose_batch_size(parts.recipe),
                    normalize=cache.to_input,
                    runtime=parts.runtime,
                    progress=lambda done, total: parts.phase("validating", done, total),
                    world=parts.world,
                )
                for loader in (loaders[1:] if parts.recipe.evaluate.flip else loaders[1:2])
            ]
            mean: npt.NDArray[np.float32] = np.mean(logits, axis=0, dtype=np.float32)
            return mean

        yield Source(
            loader=loaders[0], normalize=cache.to_input, head=split.head, prepare=prepare, predict=predict
        )
