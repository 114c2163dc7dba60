"""Model + loader -> logits. Validation in training and stand-alone evaluation both go through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.data.loader import Loader
from praxiscope.data.plan import plan_evaluation
from praxiscope.models.runtime import Runtime
from praxiscope.models.shards import is_sharded, part_again
from praxiscope.models.world import ALONE, World
from praxiscope.stats.calibration import compute_calibration
from praxiscope.stats.confusion import compute_confusion, compute_scores
from praxiscope.stats.joint import rank_joint, score_joint
from praxiscope.stats.topk import compute_topk
from praxiscope.tensors import NDIM_WITH_VIEWS, Heads


def compute_logits(  # noqa: PLR0913 - all but two name a part of the evaluation
    module: nn.Module,
    loader: Loader,
    *,
    num_samples: int,
    batch_size: int,
    normalize: Callable[[Tensor], Tensor],
    runtime: Runtime,
    flip: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    world: World = ALONE,
) -> npt.NDArray[np.float32]:
    """Run the model over a split: every sample exactly once, nothing padded, in the order of its rows.

    Args:
        module: the network; put into evaluation mode, and back afterwards.
        loader: reads evaluation batches of the split.
        num_samples: N of the split.
        batch_size: samples of a forward pass.
        normalize: uint8 batch -> the model's input.
        runtime: device and precision.
        flip: average the logits of each image and its mirror image.
        progress: called with samples done and their number, both of this rank.
        world: the ranks that share the samples; all of them get all logits.

    Returns:
        float32 (N, K).

    Raises:
        SampleFailed: a sample can't be read, by this rank or another.
    """
    was_training, sharded = module.training, is_sharded(module)
    module.eval()
    # A sharded network is put together for each forward pass by all ranks: they need equally many.
    plans = plan_evaluation(num_samples, batch_size, rank=world.rank, ranks=world.size, in_step=sharded)
    parts: list[Tensor] = []
    done, total = 0, sum(len(plan.rows) for plan in plans if not plan.spare)
    try:
        with world.together(), torch.no_grad() if sharded else torch.inference_mode():
            for plan, batch in zip(plans, loader.batches(plans), strict=True):
                logits = answer_batch(module, batch.images, normalize=normalize, runtime=runtime, flip=flip)
                if not plan.spare:
                    parts.append(logits.cpu())
                    done += len(batch.rows)
                    progress(done, total)
    finally:
        module.train(was_training)
        part_again(module)
    rows: npt.NDArray[np.float32] = world.gather_rows(torch.cat(parts or [torch.empty(0)])).numpy()
    return rows


def answer_batch(
    module: nn.Module,
    images: Tensor,
    *,
    normalize: Callable[[Tensor], Tensor],
    runtime: Runtime,
    flip: bool = False,
) -> Tensor:
    """Return a batch's logits, float32 (B, K), the mean over its views and, with `flip`, its mirror images.

    Args:
        module: the network, in evaluation mode.
        images: uint8 (B, C, H, W), of clips (B, T, C, H, W), in several views (B, V, T, C, H, W).
        normalize: uint8 batch -> the model's input.
        runtime: device and precision.
        flip: average the logits of each image and its mirror image.
    """
    views = images.shape[1] if images.ndim == NDIM_WITH_VIEWS else 1
    inputs = normalize(images.flatten(0, 1) if images.ndim == NDIM_WITH_VIEWS else images)
    with runtime.autocast():
        logits: Tensor = module(inputs).float()
        if flip:
            logits = (logits + module(inputs.flip(-1)).float()) / 2
    return logits.view(-1, views, logits.shape[1]).mean(dim=1) if views > 1 else logits


def compute_epoch_scores(
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    heads: Heads,
    prefix: str,
    *,
    weights: Sequence[float] = (1.0,),
) -> dict[str, float]:
    """Return the point scores of a split under ``prefix/``, by the functions that evaluation uses.

    Of several heads, each head's scores are ``prefix/<head>_...``, top-1 and top-5 those of the joint
    answer, and the loss is the weighted sum of the heads' cross-entropies.

    Args:
        logits: (N, K), the heads side by side.
        targets: (N,) of one head, (N, M) of several.
        heads: what they are of.
        prefix: ``val``.
        weights: of each head in the loss.
    """
    own, truth = heads.split_logits(logits), heads.split_targets(targets)
    if len(own) == 1:
        (head,) = own
        return {f"{prefix}/{key}": value for key, value in _score_head(own[head], truth[head]).items()}
    figures: dict[str, float] = {}
    for head in own:
        figures |= {f"{head}_{key}": value for key, value in _score_head(own[head], truth[head]).items()}
    ranks = rank_joint(score_joint(list(own.values()), best=5), targets)
    figures["loss"] = sum(weight * figures[f"{head}_loss"] for head, weight in zip(own, weights, strict=True))
    figures |= {"top1": float((ranks == 0).mean()), "top5": float((ranks < 5).mean())}
    return {f"{prefix}/{key}": value for key, value in figures.items()}


def _score_head(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> dict[str, float]:
    num_classes = logits.shape[1]
    calibration = compute_calibration(logits, targets)
    figures = {
        "loss": calibration.nll,
        "top5": compute_topk(logits, targets, min(5, num_classes)),
        "ece": calibration.ece,
        **asdict(compute_scores(compute_confusion(targets, logits.argmax(axis=1), num_classes))),
    }
    return {key: float(value) for key, value in figures.items()}
