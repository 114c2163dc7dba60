"""What can be known about a training log, and the conditions that its figures were measured under."""

from __future__ import annotations

from dataclasses import dataclass


def is_loss(key: str) -> bool:
    """Say whether less of a figure is better."""
    return key.endswith("loss")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How the figures of a log were measured; decides what may be compared with what."""

    num_train: int | None = None
    """Samples behind a training figure; None where unknown."""
    num_val: int | None = None
    """Samples behind a validation figure; None where unknown."""
    mixed: bool = False
    """Training images were mixed (MixUp, CutMix): training accuracy is that of mixtures."""
    augmented: bool = True
    """Training images were augmented."""
    dropout: bool = True
    """Dropout or stochastic depth was on in training."""
    same_loss: bool = True
    """Training loss is the function that validation loss is: plain cross-entropy."""
    extensions: tuple[int, ...] = ()
    """Epochs after which the run was extended to more epochs than it had been begun with."""

    @property
    def comparable_losses(self) -> bool:
        """Whether training and validation loss may be subtracted."""
        return self.same_loss and not self.mixed


@dataclass(frozen=True, kw_only=True)
class Level:
    """The first epoch that reached a level."""

    share_of_best: float | None
    """The level as a share of the best value; None for a level that was asked for by its value."""
    value: float
    epoch: int | None
    """None: never reached."""


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """A stretch of epochs without improvement beyond noise."""

    first: int
    last: int
    gain: float
    """By how much the best value improved in it, at most the noise."""


@dataclass(frozen=True, kw_only=True)
class LearningFindings:
    """What a training log says; epochs are 1-based as logged, figures in the log's own units."""

    monitor: str
    """The figure by which epochs are compared, for example ``val/top1``."""
    num_epochs: int
    """Epochs in the log."""
    best_epoch: int | None = None
    """First epoch with the best monitored figure; None when no epoch has a finite one."""
    best_value: float | None = None
    first_epoch: int | None = None
    """First epoch that has a finite monitored figure."""
    first_value: float | None = None
    last_epoch: int | None = None
    """Last epoch that has a finite monitored figure."""
    last_value: float | None = None
    noise: float | None = None
    """Differences of the monitored figure up to this are within its noise."""
    num_val: int | None = None
    """Validation samples that the noise follows from; None where it is a fixed step."""
    levels: tuple[Level, ...] = ()
    fast_until: int | None = None
    """Epoch by which most of the gain was made, if that was early."""
    plateaus: tuple[Plateau, ...] = ()
    unfinished_gain: float | None = None
    """Gain of the last epochs over all before; None when validation was no longer improving at the end."""
    skipped_epochs: tuple[int, ...] = ()
    """Epochs without a finite monitored figure; the rules leave them out."""
    extensions: tuple[tuple[int, float, float], ...] = ()
    """(last epoch before, best before, best since) of each extension."""
    gap_at_best: float | None = None
    """Train minus validation top-1 accuracy at the best epoch, in [-1, 1]."""
    gap_at_end: float | None = None
    """The same at the last epoch that has both."""
    gap_noise: float | None = None
    """A gap up to this is within its noise; None where the number of samples is unknown."""
    gap_grew_from: int | None = None
    """First epoch from which validation loss minus training loss rose."""
    loss_gaps: tuple[float, float] | None = None
    """Validation loss minus training loss, smoothed, just before it grew and at the end."""
    lowest_loss_epoch: int | None = None
    """First epoch with the lowest smoothed validation loss; None for fewer than 5 epochs with both losses."""
    lowest_loss: float | None = None
    train_loss_fall: float | None = None
    """Fall of smoothed training loss from that epoch (or from ``stalled_since``) to the last, as a fraction;
    negative for a rise."""
    overfitting_since: int | None = None
    """First epoch of the rise in validation loss; None when overfitting didn't set in."""
    loss_rise: float | None = None
    """Rise of smoothed validation loss from its minimum to the last epoch as a fraction, with overfitting."""
    stalled_since: int | None = None
    """Epoch since which validation loss hasn't improved beyond noise although training loss went on falling;
    only without overfitting."""
    sentences: tuple[str, ...] = ()
    """The findings for a reader, each carried by the fields above."""

    @property
    def unfinished(self) -> bool:
        """Whether validation was still improving at the last epoch."""
        return self.unfinished_gain is not None

    @property
    def plateau_since(self) -> int | None:
        """First epoch of a plateau that lasts to the end."""
        if not self.plateaus or self.plateaus[-1].last != self.last_epoch:
            return None
        return self.plateaus[-1].first
