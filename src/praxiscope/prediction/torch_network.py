"""A run's network as a :class:`~praxiscope.prediction.predictors.Network`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from praxiscope.data.clips.views import ClipRule
from praxiscope.data.transforms import EvalTransform
from praxiscope.evaluation.inputs import build_input_spec, choose_batch_size
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.state import compute_weights_sha256
from praxiscope.prediction.predictors import Images, Logits, Network
from praxiscope.recipe.schema import Recipe
from praxiscope.tensors import Heads


def build_network(  # noqa: PLR0913 - a network, its run, and how it computes
    built: BuiltModel,
    recipe: Recipe,
    *,
    heads: Heads,
    runtime: Runtime,
    source: Path,
    label: str,
    batch_size: int | None = None,
    clip: ClipRule | None = None,
) -> Network:
    """Wrap a built network with its best weights.

    Args:
        built: the network; put into evaluation mode and onto the runtime's device.
        recipe: its run's; gives input size, batch size and whether mirror images are averaged in.
        heads: what the logits stand for.
        runtime: device and precision.
        source: the run's folder.
        label: what messages call it.
        batch_size: pictures of a forward pass; by default evaluation's.
        clip: which frames it looks at, where it takes clips.
    """
    weights_sha256 = compute_weights_sha256(built.module.state_dict())
    module = runtime.place(built.module).eval()
    normalize = Normalizer(built.mean, built.std, runtime)

    def compute(images: Images) -> Logits:
        with torch.inference_mode():
            values = normalize(torch.from_numpy(images).movedim(-1, -3))
            with runtime.autocast():
                logits = module(values).float()
                if recipe.evaluate.flip:
                    logits = (logits + module(values.flip(-1)).float()) / 2
        return np.array(logits.cpu().numpy())  # a copy: a cascade writes into it

    return Network(
        label=label,
        source=source,
        heads=heads,
        transform=EvalTransform(spec=build_input_spec(built, recipe, evaluation=True)),
        compute=compute,
        batch_size=batch_size or choose_batch_size(recipe),
        weights_sha256=weights_sha256,
        clip=clip,
    )
