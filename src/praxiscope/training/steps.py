"""One optimiser step, of one rank or several: forward, backward, figures, checks, update.

Dropout is a function of (seed, step, rank) and mixing one of (seed, step): both are seeded here, before the
forward pass. What is not finite stops training before it can reach the weights (C6).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from praxiscope.data.plan import BatchPlan
from praxiscope.errors import Diverged
from praxiscope.models.shards import take_full, take_own
from praxiscope.stats.joint import rank_joint, score_joint
from praxiscope.tensors import Batch, Heads
from praxiscope.training.job import Job
from praxiscope.training.mixing import mix_batch
from praxiscope.training.optim import set_lr
from praxiscope.training.state import Tally, TrainState

_MAX_SKIPS_IN_A_ROW = 25  # a gradient scaler needs about 16 halvings from its start; more is divergence
_ADVICE = (
    "The last checkpoint is from before this. Try a lower --lr, a warm-up (--warmup-epochs), "
    "--set train.clip_grad=1, or --amp fp32."
)
_SEED_STRIDE = 1_000_003  # keeps the dropout streams of two seeds apart
_RANK_STRIDE = 2_654_435_761  # and of two ranks: CPUs seed with 32 bits, over which this spreads best
_MIX = 3  # and mixing apart from order and augmentation


@dataclass(frozen=True, kw_only=True)
class Share:
    """What this rank has of a batch.

    Attributes:
        plan: the batch of all ranks.
        batch: this rank's samples of it.
        weight: 0 where this rank has none, and reads one to keep in step; else 1.
    """

    plan: BatchPlan
    batch: Batch
    weight: int


def read_shares(job: Job, plans: Sequence[BatchPlan]) -> Iterator[list[Share]]:
    """Yield this rank's shares of the batches of one optimiser step after the other."""
    own = [plan.cut(job.world.rank, job.world.size) for plan in plans]
    batches, size = job.loader.batches(own), job.recipe.train.accum_steps
    for group in (slice(start, start + size) for start in range(0, len(plans), size)):
        with job.world.together():  # a file that one rank can't read stops all
            read = list(islice(batches, len(plans[group])))
        yield [
            Share(plan=plan, batch=batch, weight=int(not share.spare))
            for plan, share, batch in zip(plans[group], own[group], read, strict=True)
        ]


def update(job: Job, shares: Sequence[Share], state: TrainState, lr: float) -> None:
    """Make one optimiser step of one or more batches; each sample weighs the same.

    Args:
        job: the parts; network and optimiser change in place, the latter has its learning rate already.
        shares: what this rank has of each batch.
        state: its tally and step count change in place.
        lr: learning rate, for the message of a failure.

    Raises:
        Diverged: the loss or the gradient is not finite; nothing was changed.
        RankLost: another rank died.
    """
    world, losses, hits = job.world, [], []
    total = sum(len(share.plan.rows) for share in shares)
    for number, share in enumerate(shares):
        seed = job.recipe.seed * _SEED_STRIDE + state.step * 64 + number
        torch.manual_seed(seed + world.rank * _RANK_STRIDE)
        targets = share.batch.targets.to(job.runtime.device, non_blocking=True)
        images, goals = mix_batch(
            job.normalize(share.batch.images),
            targets,
            job.recipe.augment,
            sizes=job.heads.sizes,
            rng=np.random.default_rng([job.recipe.seed, state.step, number, _MIX]),
        )
        with world.naming_lost_ranks(), job.sync(number == len(shares) - 1):
            with job.runtime.autocast():
                logits = (job.forward or job.module)(images)
            loss_sum = job.loss(logits.float(), goals)
            # Gradients are averaged over ranks: times their number, they are those of the global mean.
            own_loss = loss_sum * (share.weight * world.size) / total
            job.scaler.scale(own_loss).backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss_sum.detach()) * share.weight)
        hits.append(_find_hits(job.heads, logits.detach(), targets)[: len(targets) * share.weight])
    loss = _count(job, state.tally, shares, losses, torch.cat(hits))
    job.scaler.unscale_(job.optimizer)
    with world.naming_lost_ranks():
        limit = job.recipe.train.clip_grad or math.inf
        norm = float(take_full(nn.utils.clip_grad_norm_(job.module.parameters(), limit)))
    _check_finite(job, shares, state, loss=loss / total, norm=norm, lr=lr)
    # The scaler leaves a step out where a gradient is infinite, not where only their norm is.
    if math.isfinite(norm):
        job.scaler.step(job.optimizer)
        state.step += 1
        if job.ema is not None:
            job.ema.update(job.module, step=state.step)
    job.scaler.update()
    job.optimizer.zero_grad(set_to_none=True)


def take_step(job: Job, batches: Sequence[Batch], state: TrainState, *, lr: float) -> None:
    """Make one optimiser step outside of an epoch, as ``loop.fit`` makes it; the loss goes into the tally.

    Raises:
        Diverged: the loss or the gradient is not finite.
    """
    set_lr(job.optimizer, lr)
    shares = [
        Share(plan=BatchPlan(epoch=state.epoch, rows=batch.rows), batch=batch, weight=1) for batch in batches
    ]
    update(job, shares, state, lr)


def _find_hits(heads: Heads, logits_BK: Tensor, targets: Tensor) -> Tensor:
    """Return what the figures of an epoch count of each sample.

    Returns:
        int64 (B, 2 M + 1) on the CPU: of each head the cell of its confusion matrix, row by row, and whether
        the target is among the five highest; then the place of the targets among the joint answers, 0 of one
        head.
    """
    logits_by_head, targets_by_head = heads.split_logits(logits_BK), heads.split_targets(targets)
    columns = []
    for head in heads.names:
        own_BK, targets_B = logits_by_head[head], targets_by_head[head]
        best = own_BK.topk(min(5, own_BK.shape[1]), dim=1).indices
        columns += [targets_B * own_BK.shape[1] + best[:, 0], (best == targets_B[:, None]).any(dim=1)]
    hits = torch.stack([column.long() for column in columns], dim=1).cpu()
    ranks = torch.zeros(len(hits), dtype=torch.int64)
    if len(heads.names) > 1:
        best_five = score_joint([each.float().cpu().numpy() for each in logits_by_head.values()], best=5)
        ranks = torch.from_numpy(rank_joint(best_five, targets.cpu().numpy())).long()
    return torch.cat([hits, ranks[:, None]], dim=1)


def _count(
    job: Job, tally: Tally, shares: Sequence[Share], losses: Sequence[float], own_hits: Tensor
) -> float:
    """Add a step's batches, of all ranks, to the epoch's figures; return their loss.

    Args:
        job: gives heads and ranks.
        tally: of the epoch.
        shares: this rank's.
        losses: sum of the samples' losses, by batch.
        own_hits: of this rank's samples.
    """
    by_batch = [share.plan.count_shares(job.world.size) for share in shares]
    hits = job.world.gather_rows(own_hits, counts=[sum(each) for each in zip(*by_batch, strict=True)])
    for place, size in enumerate(job.heads.sizes):
        cells = torch.bincount(hits[:, 2 * place], minlength=size**2)
        tally.confusions[place] += cells.view(size, size).numpy()
        tally.top5_sums[place] += int(hits[:, 2 * place + 1].sum())
    if tally.joint_sums:
        tally.joint_sums[0] += int((hits[:, -1] == 0).sum())
        tally.joint_sums[1] += int((hits[:, -1] < 5).sum())
    loss = 0.0
    for each in job.world.sum(losses):
        tally.loss_sum += each
        loss += each
    return loss


def _check_finite(
    job: Job, shares: Sequence[Share], state: TrainState, *, loss: float, norm: float, lr: float
) -> None:
    """Stop before the optimiser takes a step that can't be undone (C6)."""
    if math.isfinite(loss) and math.isfinite(norm):
        state.skipped_in_a_row = 0
        return
    if math.isfinite(loss) and job.scaler.is_enabled() and state.skipped_in_a_row < _MAX_SKIPS_IN_A_ROW:
        state.skipped_steps += 1  # the scale was too large for fp16: the scaler leaves the step out (C7)
        state.skipped_in_a_row += 1
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    names = [job.sample_ids[row] for share in shares for row in share.plan.rows]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    raise Diverged(
        f"Stopped before step {state.step + 1} (epoch {state.epoch + 1}): {what} at learning rate {lr:.3g}, "
        f"precision {job.runtime.precision}. Files of the batch: {', '.join(names[:8])}{more}. {_ADVICE}"
    )


def check_weights(job: Job, state: TrainState) -> None:
    """Keep weights that a step has made infinite or NaN out of the checkpoints (C6).

    Raises:
        Diverged: a weight is not finite; on all ranks.
    """
    weights = job.module.state_dict()
    with job.world.together():
        broken = [name for name, value in weights.items() if not bool(torch.isfinite(take_own(value)).all())]
        if broken:
            lr = max(group["lr"] for group in job.optimizer.param_groups)
            raise Diverged(
                f"Stopped after step {state.step} (epoch {state.epoch + 1}): {len(broken)} of {len(weights)} "
                f"tensors of the network are not finite ({', '.join(broken[:3])}) at learning rate {lr:.3g}, "
                f"precision {job.runtime.precision}. {_ADVICE}"
            )
