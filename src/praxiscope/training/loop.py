"""The loop. One ``fit`` for every model; no second trainer.

Everything it does is a function of (seed, epoch, step): the order of samples and their augmentation
(``data.loader``), dropout and mixing (``training.steps``), the learning rate (``training.schedule``). So a
resume from any checkpoint continues bit for bit.

Several ranks (``models.world``) run the same loop. Each batch of the plan is cut into their shares, and what
the loop decides by - losses, figures, requests to stop - is exchanged before it decides, so that its state is
the same on all of them but for the clocks.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence

from praxiscope.data.plan import BatchPlan
from praxiscope.models.runtime import read_peak_memory_mib
from praxiscope.training.job import Job, Row
from praxiscope.training.optim import set_lr
from praxiscope.training.schedule import compute_lr
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState
from praxiscope.training.steps import check_weights, read_shares, update
from praxiscope.training.watch import Progress, Watcher


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
        check_weights(job, state)
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
    for shares in read_shares(job, plans[state.batch :]):
        lr = state.lr = compute_lr(
            train,
            step=state.step,
            steps_per_epoch=steps,
            plateau_factor=state.plateau_factor,
            joints=state.joints,
        )
        set_lr(job.optimizer, lr)
        update(job, shares, state, lr)
        state.batch += len(shares)
        clock.tick(sum(len(share.plan.rows) for share in shares))
        watch.step(_describe_step(job, state, plans, lr, clock))
        asked, due = _agree_to_pause(job, stop, due=clock.is_due(train.checkpoint_every_minutes))
        if state.batch < len(plans) and (asked or due):
            check_weights(job, state)
            job.save(state, False, False)
            clock.saved()
            if asked:  # not stop.requested: a signal may have come to this rank alone meanwhile
                raise stop.as_error(f"at step {state.step}, in epoch {state.epoch + 1}")
    return lr


def _agree_to_pause(job: Job, stop: StopFlag, *, due: bool = False) -> tuple[bool, bool]:
    """Return whether any rank was asked to stop, which then holds on all, and whether it is time to save."""
    own = stop.number or (signal.SIGTERM if job.world.orphaned else 0)
    number, due_anywhere = job.world.highest(own, int(due))
    if number:
        stop.request(number)
    return bool(number), bool(due_anywhere)


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
