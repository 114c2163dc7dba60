"""Temporal reliance: does a video network use the order of frames, or would a heap of stills do as well?

The frames that were read are put into another order before they enter the network, so that everything else
(which frames, crop, resizing) is the same. After Huang et al. 2018, "What makes a video a video"
(https://arxiv.org/abs/1803.03269), and Sevilla-Lara et al. 2021, "Only time can tell"
(https://arxiv.org/abs/1907.08340).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.data.loader import Loader
from praxiscope.data.plan import plan_evaluation
from praxiscope.errors import UsageError
from praxiscope.evaluation.predict import answer_batch
from praxiscope.models.runtime import Runtime
from praxiscope.stats.bootstrap import bootstrap_means, code_groups
from praxiscope.stats.intervals import Interval, open_extreme
from praxiscope.stats.joint import rank_joint, score_joint
from praxiscope.stats.paired import paired_interval
from praxiscope.stats.topk import compute_target_ranks
from praxiscope.tensors import Heads

IN_ORDER = "in order"
ORDERS = (IN_ORDER, "shuffled", "reversed", "frozen", "halved")
"""Orders of frames that are compared."""
BLIND_BELOW = 1e-4
"""Largest change of a logit that rounding in fp32 explains; a network that changes less is order-blind."""
TEMPORAL_RULE = (
    "Temporal reliance: the same frames in another order, in fp32. Shuffled: a random order other than the "
    "true one, drawn for each clip; reversed: last to first; frozen: the middle frame in each place; halved: "
    "every second frame, each twice. Differences are in points of top-1 against the frames in order, paired "
    "by sample, with the bootstrap's interval by group (where all resamples agree, Bonett and Price's). A "
    f"network whose logits change by less than {BLIND_BELOW:g} under shuffling and reversing is order-blind."
)
_FRAMES = -4  # axis of T in (..., T, C, H, W)


def arrange_frames(clips: Tensor, order: str, *, rows: Sequence[int], seed: int) -> Tensor:
    """Return clips with their frames in another order.

    Args:
        clips: (B, T, C, H, W), or in several views (B, V, T, C, H, W).
        order: One of `ORDERS`.
        rows: (B,) rows of the samples in their split: with the seed they decide the order that is drawn, so
            that it doesn't depend on the batch. All views of a clip have the same.
        seed: Of the draws.

    Raises:
        ValueError: No such order.
    """
    count = clips.shape[_FRAMES]
    places = torch.stack([torch.from_numpy(_choose_places(order, count, row, seed)) for row in rows])
    shape = [len(rows)] + [1] * (clips.ndim - 1)
    shape[_FRAMES] = count
    return clips.gather(_FRAMES + clips.ndim, places.view(shape).expand(clips.shape).to(clips.device))


def compute_ordered_logits(  # noqa: PLR0913 - what an evaluation has, and the seed of the orders
    module: nn.Module,
    loader: Loader,
    *,
    num_samples: int,
    batch_size: int,
    normalize: Callable[[Tensor], Tensor],
    runtime: Runtime,
    seed: int,
    flip: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Run a network over a split of clips in each of the `ORDERS`; every clip is read once.

    Args:
        module: The network; put into evaluation mode, and back afterwards.
        loader: Reads evaluation batches of clips.
        num_samples: N of the split.
        batch_size: Samples of a forward pass.
        normalize: uint8 batch -> the network's input.
        runtime: Device and precision.
        seed: Of the shuffled orders.
        flip: As in the evaluation.
        progress: Called with samples done and N.

    Returns:
        Order to float32 (N, K).
    """
    was_training = module.training
    module.eval()
    parts: dict[str, list[npt.NDArray[np.float32]]] = {order: [] for order in ORDERS}
    done = 0
    try:
        with torch.inference_mode():
            for batch in loader.batches(plan_evaluation(num_samples, batch_size)):
                for order, found in parts.items():
                    clips = arrange_frames(batch.images, order, rows=batch.rows, seed=seed)
                    logits = answer_batch(module, clips, normalize=normalize, runtime=runtime, flip=flip)
                    found.append(logits.cpu().numpy())
                done += len(batch.rows)
                progress(done, num_samples)
    finally:
        module.train(was_training)
    return {order: np.concatenate(found) for order, found in parts.items()}


def require_order(num_frames: int | None) -> None:
    """Refuse a network that has no order of frames to rely on.

    Raises:
        UsageError: It takes images, or one frame.
    """
    if num_frames is None or num_frames < 2:
        given = "images" if num_frames is None else "one frame of a clip"
        raise UsageError(f"--temporal compares orders of frames; this network takes {given}.")


def score_temporal(
    logits: Mapping[str, npt.NDArray[np.float32]],
    targets: npt.NDArray[np.int64],
    heads: Heads,
    *,
    groups: Sequence[str | None],
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the ``temporal_reliance`` of ``metrics.json``.

    Args:
        logits: Order to (N, K), the heads side by side, from `compute_ordered_logits`.
        targets: (N,) of one head, (N, M) of several, whose joint answer counts first.
        heads: What they are of.
        groups: N names, None for a sample of its own.
        plan: ``seed``, ``resamples`` and ``level`` of the bootstrap.

    Returns:
        ``orders``: for each order ``top1`` and, but for the true one, its ``difference`` (both with
        intervals), ``largest_change`` of a logit, ``changed_answers``, the share of samples with another
        answer, and ``heads`` with the top-1 of each of several heads; ``verdict``; ``order_blind``; ``rule``.
    """
    answers = {order: _answer(each, heads) for order, each in logits.items()}
    right = {order: _judge(each, targets, heads) for order, each in logits.items()}
    base = right[IN_ORDER]["all"]
    figures = bootstrap_means({order: one["all"] for order, one in right.items()}, groups=groups, **plan)
    others = {order: one["all"] * 1.0 - base for order, one in right.items() if order != IN_ORDER}
    differences = bootstrap_means(others, groups=groups, **plan)
    num_groups, level = int(code_groups(groups, len(base)).max()) + 1, plan["level"]
    told: list[dict[str, Any]] = []
    for order, each in logits.items():
        same = order == IN_ORDER
        change = float(np.abs(each - logits[IN_ORDER]).max())
        told.append(
            {
                "order": order,
                "top1": vars(open_extreme(figures[order], num_groups, level=level)),
                "difference": None
                if same
                else vars(
                    differences[order]
                    if change < BLIND_BELOW
                    else _open_difference(differences[order], num_groups, level)
                ),
                "largest_change": None if same else change,
                "changed_answers": None
                if same
                else float((answers[order] != answers[IN_ORDER]).any(axis=1).mean()),
                "heads": {head: float(hits.mean()) for head, hits in right[order].items() if head != "all"},
            }
        )
    blind = all(
        one["largest_change"] < BLIND_BELOW for one in told if one["order"] in {"shuffled", "reversed"}
    )
    return {
        "orders": told,
        "order_blind": blind,
        "verdict": _tell_verdict({one["order"]: one for one in told}, blind=blind),
        "rule": TEMPORAL_RULE,
    }


def _open_difference(found: Interval, num_groups: int, level: float) -> Interval:
    """Give a difference on which all resamples agree Bonett and Price's interval over the groups."""
    if found.low != found.high or num_groups < 2:
        return found
    loses, wins = max(-found.value, 0.0) * num_groups, max(found.value, 0.0) * num_groups
    low, high = paired_interval(loses, wins, num_groups, level=level)
    return Interval(value=found.value, low=min(float(low), found.value), high=max(float(high), found.value))


def _tell_verdict(orders: Mapping[str, Mapping[str, Any]], *, blind: bool) -> str:
    if blind:
        change = max(orders[order]["largest_change"] for order in ("shuffled", "reversed"))
        verdict = (
            f"Order-blind: shuffling or reversing the frames changes no logit by more than {change:.1g}, so "
            "what differs only in the order of frames can't be told apart."
        )
    else:
        order = min(("shuffled", "reversed"), key=lambda name: orders[name]["difference"]["value"])
        verdict = _tell_order(order, orders[order])
    frozen = orders["frozen"]["difference"]
    if frozen["high"] < 0:
        return f"{verdict} One frame alone (frozen) costs {_tell_cost(frozen)}."
    if frozen["low"] <= 0 <= frozen["high"]:
        return f"{verdict} One frame alone (frozen) does as well, as far as these samples show."
    return verdict


def _tell_order(order: str, found: Mapping[str, Any]) -> str:
    difference = found["difference"]
    verb = {"shuffled": "shuffling", "reversed": "reversing"}[order]
    if difference["high"] < 0:
        return f"Uses order: {verb} the frames costs {_tell_cost(difference)}."
    changed = f"answers change for {100 * found['changed_answers']:.1f} % of the samples"
    if np.isnan(difference["low"]):
        return (
            f"{verb.capitalize()} the frames moves top-1 by {100 * difference['value']:+.1f} points, without "
            f"an interval, as all samples are of one group; {changed}."
        )
    return (
        f"Sees order, but accuracy doesn't show a use of it: {verb} the frames moves top-1 by "
        f"{100 * difference['value']:+.1f} points ({100 * difference['low']:+.1f} to "
        f"{100 * difference['high']:+.1f}); {changed}."
    )


def _tell_cost(difference: Mapping[str, float]) -> str:
    return (
        f"{-100 * difference['value']:.1f} points of top-1 ({-100 * difference['high']:.1f} to "
        f"{-100 * difference['low']:.1f})"
    )


def _choose_places(order: str, count: int, row: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which frame stands in each of the T places."""
    places = np.arange(count)
    if order == "shuffled":
        rng = np.random.default_rng([seed, row])
        shuffled = rng.permutation(count)
        while count > 1 and (shuffled == places).all():
            shuffled = rng.permutation(count)
        return shuffled
    chosen = {
        IN_ORDER: places,
        "reversed": places[::-1].copy(),
        "frozen": np.full(count, (count - 1) // 2),
        "halved": places - places % 2,
    }
    if order not in chosen:
        raise ValueError(f"there is no order {order!r}; choose one of {', '.join(ORDERS)}")
    return chosen[order]


def _answer(logits: npt.NDArray[np.float32], heads: Heads) -> npt.NDArray[np.int64]:
    """Return (N, M) best labels."""
    return np.stack([own.argmax(axis=1) for own in heads.split_logits(logits).values()], axis=1)


def _judge(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], heads: Heads
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return (N,) whether the answer is right: under ``all`` the joint one, of several heads each too."""
    own, truth = heads.split_logits(logits), heads.split_targets(targets)
    right = {head: compute_target_ranks(each, truth[head]) == 0 for head, each in own.items()}
    if len(own) == 1:
        return {"all": next(iter(right.values()))}
    return {"all": rank_joint(score_joint(list(own.values()), best=1), targets) == 0, **right}
