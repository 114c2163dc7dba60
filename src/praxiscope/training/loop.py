"""The loop. One ``fit`` for every model; no second trainer.

Everything it does is a function of (seed, epoch, step): the order of samples and their augmentation
(``data.loader``), dropout (seeded here, before each forward pass), the learning rate
(``training.schedule``). So a resume from any checkpoint continues bit for bit.

Several ranks (``models.world``) run the same loop. Each batch of the plan is cut into their shares, and what
the loop decides by - losses, figures, requests to stop - is exchanged before it decides, so that its state is
the same on all of them but for the clocks.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.data.loader import Loader
from praxiscope.data.plan import BatchPlan, plan_training_epoch
from praxiscope.errors import Diverged
from praxiscope.models.runtime import Runtime, read_peak_memory_mib
from praxiscope.models.shards import take_full, take_own
from praxiscope.models.world import ALONE, World
from praxiscope.recipe.schema import Recipe
from praxiscope.stats.joint import index_joint, rank_joint, score_joint
from praxiscope.tensors import Batch, Heads
from praxiscope.training.ema import Ema
from praxiscope.training.losses import Loss
from praxiscope.training.mixing import mix_batch
from praxiscope.training.optim import set_lr
from praxiscope.training.schedule import compute_lr
from praxiscope.training.signals import StopFlag
from praxiscope.training.source import be_ready
from praxiscope.training.state import Tally, TrainState
from praxiscope.training.watch import Progress, Watcher

_MAX_SKIPS_IN_A_ROW = 25  # a gradient scaler needs about 16 halvings from its start; more is divergence
_ADVICE = (
    "The last checkpoint is from before this. Try a lower --lr, a warm-up (--warmup-epochs), "
    "--set train.clip_grad=1, or --amp fp32."
)
_SEED_STRIDE = 1_000_003  # keeps the dropout streams of two seeds apart
_RANK_STRIDE = 2_654_435_761  # and of two ranks: CPUs seed with 32 bits, over which this spreads best
_MIX = 3  # and mixing apart from order and augmentation

Row = dict[str, float | int]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one training run is made of.

    Attributes:
        recipe: what was asked for.
        module: the network in training mode, on its device.
        ema: its moving average, when the recipe has one; then that is what is validated.
        optimizer: over the parameters that train.
        scaler: scales gradients in fp16; does nothing otherwise.
        runtime: device, precision, memory format.
        normalize: what a batch holds -> the input of what trains.
        loader: training batches.
        loss: sum of a batch's losses.
        targets: int64, of the training split, (N,), or (N, M) of several heads.
        heads: what the logits are of.
        sample_ids: by row, to name the files of a bad batch.
        validate: the network -> ``val/...`` scores.
        save: writes a checkpoint; told whether it is the best so far and whether an epoch has just ended.
        log: writes an epoch's row.
        forward: that input -> logits; the whole network where None, its head where features are cached.
        prepare: called before the first step, at the state that training goes on from.
        world: the ranks that train together.
        sync: told whether the next backward pass ends a step: only then gradients are exchanged.
    """

    recipe: Recipe
    module: nn.Module
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    runtime: Runtime
    normalize: Callable[[Tensor], Tensor]
    loader: Loader
    loss: Loss
    targets: npt.NDArray[np.int64]
    heads: Heads
    sample_ids: Sequence[str]
    validate: Callable[[nn.Module], dict[str, float]]
    save: Callable[[TrainState, bool, bool], None]
    log: Callable[[Row], None]
    forward: Callable[[Tensor], Tensor] | None = None
    prepare: Callable[[TrainState, StopFlag], None] = be_ready
    world: World = ALONE
    sync: Callable[[bool], AbstractContextManager[object]] = lambda _last: nullcontext()

    @property
    def num_samples(self) -> int:
        """N, of the training split and of an epoch."""
        return len(self.targets)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) what balanced sampling balances: classes, or combinations of several heads' classes."""
        return self.targets if self.targets.ndim == 1 else index_joint(self.targets)

    def plan_epoch(self, epoch: int) -> list[BatchPlan]:
        """Return the batches of an epoch (0-based), of all ranks together, in their order."""
        train = self.recipe.train
        return plan_training_epoch(
            self.num_samples,
            train.batch_size * self.world.size,
            seed=self.recipe.seed,
            epoch=epoch,
            repeats=self.recipe.augment.repeats,
            labels=self.labels if train.sampling == "balanced" else None,
        )


def fit(job: Job, state: TrainState, *, stop: StopFlag, watch: Watcher) -> TrainState:
    """Train from ``state`` to the last epoch, or until stopped.

    Args:
        job: the parts.
        state: where to begin; changed in place.
        stop: looked at after each step.
        watch: told about progress.

    Returns:
        ``state`` at the end.

    Raises:
        Diverged: a loss, gradient or weight is not finite; the last checkpoint is from before it.
        Preempted, Interrupted: stopped by a signal, after saving.
        SampleFailed: a sample can't be read.
    """
    train = job.recipe.train
    if state.epoch < train.epochs and not state.stopped_early:
        job.prepare(state, stop)
    while state.epoch < train.epochs and not state.stopped_early:
        # ---------------------------------------------------------------- one pass over the training split
        lr = _train_epoch(job, state, stop=stop, watch=watch)

        # ---------------------------------------------------------------- validate
        _check_weights(job, state)
        started = time.perf_counter()
        watch.phase("validating", 0, 1)
        network = job.ema.module if job.ema else job.module
        job.world.share_buffers(network)
        row = _describe_epoch(job, state, lr) | job.validate(network)
        state.train_s += time.perf_counter() - started

        # ---------------------------------------------------------------- choose, schedule, log, save
        is_best = _judge(job, state, float(row[train.monitor]))
        state.begin_epoch()
        job.log(row)
        job.save(state, is_best, True)
        watch.epoch(row)
        asked, _ = _agree_to_pause(job, stop)
        if asked and state.epoch < train.epochs and not state.stopped_early:
            raise stop.as_error(f"after epoch {state.epoch}")
    return state


def _train_epoch(job: Job, state: TrainState, *, stop: StopFlag, watch: Watcher) -> float:
    """Do what is left of the epoch in progress; return the last learning rate."""
    train = job.recipe.train
    plans = job.plan_epoch(state.epoch)
    steps = math.ceil(len(plans) / train.accum_steps)
    job.module.train()
    lr, clock = 0.0, _Clock(state)
    for shares in _read(job, plans[state.batch :]):
        lr = state.lr = compute_lr(
            train,
            step=state.step,
            steps_per_epoch=steps,
            plateau_factor=state.plateau_factor,
            joints=state.joints,
        )
        set_lr(job.optimizer, lr)
        _update(job, shares, state, lr)
        state.batch += len(shares)
        clock.tick(sum(len(share.plan.rows) for share in shares))
        watch.step(_describe_step(job, state, plans, lr, clock))
        asked, due = _agree_to_pause(job, stop, due=clock.is_due(train.checkpoint_every_minutes))
        if state.batch < len(plans) and (asked or due):
            _check_weights(job, state)
            job.save(state, False, False)
            clock.saved()
            if asked:  # not stop.requested: a signal may have come to this rank alone meanwhile
                raise stop.as_error(f"at step {state.step}, in epoch {state.epoch + 1}")
    return lr


def take_step(job: Job, batches: Sequence[Batch], state: TrainState, *, lr: float) -> None:
    """Make one optimiser step outside of an epoch, as :func:`fit` makes it; the loss goes into the tally.

    Raises:
        Diverged: the loss or the gradient is not finite.
    """
    set_lr(job.optimizer, lr)
    shares = [
        _Share(plan=BatchPlan(epoch=state.epoch, rows=batch.rows), batch=batch, weight=1) for batch in batches
    ]
    _update(job, shares, state, lr)


def _agree_to_pause(job: Job, stop: StopFlag, *, due: bool = False) -> tuple[bool, bool]:
    """Return whether any rank was asked to stop, which then holds on all, and whether it is time to save."""
    own = stop.number or (signal.SIGTERM if job.world.orphaned else 0)
    number, due_anywhere = job.world.highest(own, int(due))
    if number:
        stop.request(number)
    return bool(number), bool(due_anywhere)


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What this rank has of a batch.

    Attributes:
        plan: the batch of all ranks.
        batch: this rank's samples of it.
        weight: 0 where this rank has none, and reads one to keep in step; else 1.
    """

    plan: BatchPlan
    batch: Batch
    weight: int


def _read(job: Job, plans: Sequence[BatchPlan]) -> Iterator[list[_Share]]:
    """Yield this rank's shares of the batches of one optimiser step after the other."""
    own = [plan.cut(job.world.rank, job.world.size) for plan in plans]
    batches, size = job.loader.batches(own), job.recipe.train.accum_steps
    for group in (slice(start, start + size) for start in range(0, len(plans), size)):
        with job.world.together():  # a file that one rank can't read stops all
            read = list(islice(batches, len(plans[group])))
        yield [
            _Share(plan=plan, batch=batch, weight=int(not share.spare))
            for plan, share, batch in zip(plans[group], own[group], read, strict=True)
        ]


def _update(job: Job, shares: Sequence[_Share], state: TrainState, lr: float) -> None:
    """Make one optimiser step of one or more batches; each sample weighs the same."""
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
    job: Job, tally: Tally, shares: Sequence[_Share], losses: Sequence[float], own_hits: Tensor
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
    job: Job, shares: Sequence[_Share], state: TrainState, *, loss: float, norm: float, lr: float
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


def _check_weights(job: Job, state: TrainState) -> None:
    """Keep weights that a step has made infinite or NaN out of the checkpoints (C6)."""
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


def _judge(job: Job, state: TrainState, value: float) -> bool:
    """Compare the epoch with the best so far; move the plateau schedule and early stopping."""
    train = job.recipe.train
    is_best = state.is_better(value, train.monitor_mode)
    if is_best:
        state.best_value, state.best_epoch = value, state.epoch + 1
        state.plateau_epochs = 0
    else:
        state.plateau_epochs += 1
    if train.schedule == "plateau" and state.plateau_epochs > train.patience_epochs:
        state.plateau_factor *= train.decay_rate
        state.plateau_epochs = 0
    patience = train.early_stopping_epochs
    # Who continues a run asks for more epochs, also of one that had been stopped for want of better ones.
    since = max([state.best_epoch, *(joint.epoch for joint in state.joints)])
    state.stopped_early = patience is not None and state.epoch + 1 - since >= patience
    return is_best


def _describe_epoch(job: Job, state: TrainState, lr: float) -> Row:
    tally = state.tally
    row: Row = {
        "epoch": state.epoch + 1,
        "step": state.step,
        "lr": lr,
        **tally.compute_row("train", job.heads),
    }
    row["images_per_s"] = tally.num_samples / max(tally.seconds, 1e-9)
    row["epoch_s"] = tally.seconds
    row["skipped_steps"] = state.skipped_steps
    peak = read_peak_memory_mib(job.runtime.device)
    return row if peak is None else row | {"peak_memory_mib": peak}


def _describe_step(
    job: Job, state: TrainState, plans: Sequence[BatchPlan], lr: float, clock: _Clock
) -> Progress:
    train = job.recipe.train
    left = (train.epochs - state.epoch) * job.num_samples - state.tally.num_samples
    return Progress(
        epoch=state.epoch + 1,
        epochs=train.epochs,
        batch=state.batch,
        batches=len(plans),
        step=state.step,
        loss=state.tally.loss_sum / max(1, state.tally.num_samples),
        lr=lr,
        images_per_s=clock.images_per_s,
        eta_s=left / clock.images_per_s if clock.images_per_s else None,
        best=state.best_value,
    )


class _Clock:
    """Times an epoch: seconds into the state, images per second without the first step's warm-up."""

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._last = self._saved = time.perf_counter()
        self._images = 0
        self._seconds = 0.0
        self._ticks = 0

    @property
    def images_per_s(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0

    def tick(self, images: int) -> None:
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        self._state.tally.seconds += spent
        self._state.train_s += spent
        self._ticks += 1
        if self._ticks > 1:
            self._images += images
            self._seconds += spent

    def is_due(self, minutes: float | None) -> bool:
        return minutes is not None and time.perf_counter() - self._saved >= 60 * minutes

    def saved(self) -> None:
        self._saved = self._last = time.perf_counter()
