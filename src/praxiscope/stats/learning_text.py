"""The sentences of `LearningFindings`: each has its numbers; what they don't carry isn't said."""

from __future__ import annotations

from collections.abc import Iterator

from praxiscope.stats.learning_findings import Conditions, LearningFindings, Level, is_loss


def tell_findings(findings: LearningFindings, conditions: Conditions) -> tuple[str, ...]:
    """Put a log's findings into sentences.

    Args:
        findings: All but their ``sentences``.
        conditions: How the figures were measured.
    """
    if not findings.num_epochs:
        return ("No epoch was finished, so there is nothing to say about learning.",)
    return (
        *_tell_best(findings),
        *_tell_last(findings),
        *_tell_levels(findings),
        *_tell_plateaus(findings),
        *_tell_extensions(findings),
        *_tell_gap(findings, conditions),
        *_tell_overfitting(findings),
        *([explain_gap(conditions)] if findings.gap_at_end is not None and not conditions.mixed else []),
    )


def explain_gap(conditions: Conditions) -> str:
    """Say why training and validation figures aren't the same measurement."""
    causes = [
        words
        for words, holds in (
            ("under augmentation", conditions.augmented),
            ("with dropout", conditions.dropout),
        )
        if holds
    ]
    under = f", {' and '.join(causes)}" if causes else ""
    without = f", without {'either' if len(causes) == 2 else 'it'}" if causes else ""
    return (
        f"Training figures are averages over the epoch while the weights change{under}; validation figures "
        f"are measured after it{without}. So the gap can understate how closely the training images are "
        "fitted."
    )


def _tell_best(findings: LearningFindings) -> Iterator[str]:
    monitor = findings.monitor
    if findings.best_epoch is None or findings.best_value is None:
        yield f"No epoch has a finite {monitor}."
    else:
        count = f"{findings.num_epochs} epoch{'s' if findings.num_epochs > 1 else ''}"
        yield (
            f"{monitor} was best at epoch {findings.best_epoch} ({count} logged): "
            f"{_value(monitor, findings.best_value)}{_tell_noise(findings)}."
        )
        if findings.skipped_epochs:
            listed = ", ".join(map(str, findings.skipped_epochs[:10]))
            more = ", ..." if len(findings.skipped_epochs) > 10 else ""
            yield f"Epochs without a finite {monitor} are left out: {listed}{more}."
    if findings.num_epochs == 1:
        yield "One epoch alone shows no trend."


def _tell_noise(findings: LearningFindings) -> str:
    if findings.num_val is None or findings.noise is None:
        return ""
    samples = f"{findings.num_val:,} validation sample{'s' if findings.num_val > 1 else ''}"
    return f"; its standard error on {samples} is {100 * findings.noise:.1f} points"


def _tell_last(findings: LearningFindings) -> Iterator[str]:
    best, last, noise = findings.best_value, findings.last_value, findings.noise
    if best is None or last is None or noise is None or findings.last_epoch == findings.best_epoch:
        return
    below = abs(best - last)
    verdict = "more than the noise" if below > noise else "not distinguishable from it"
    yield (
        f"The last epoch ({findings.last_epoch}) was at {_value(findings.monitor, last)}, "
        f"{_difference(findings.monitor, below)} from the best: {verdict}."
    )


def _tell_levels(findings: LearningFindings) -> Iterator[str]:
    monitor = findings.monitor
    shares = [level for level in findings.levels if level.share_of_best is not None and level.epoch]
    if shares and findings.num_epochs > 1:
        yield f"Of its best, {monitor} reached {', '.join(map(_tell_share, shares))}."
    for level in findings.levels:
        if level.share_of_best is None:
            when = "was never reached" if level.epoch is None else f"was first reached at epoch {level.epoch}"
            yield f"{_value(monitor, level.value)} {monitor} {when}."
    first, best = findings.first_epoch, findings.best_epoch
    if findings.fast_until and first and best and findings.first_value is not None:
        share = (findings.fast_until - first) / (best - first)
        yield (
            f"Fast at first: from {_value(monitor, findings.first_value)} at epoch {first}, three quarters "
            f"of the gain to the best were made by epoch {findings.fast_until}, after {100 * share:.0f} % of "
            "the epochs to it."
        )


def _tell_share(level: Level) -> str:
    share = f"{100 * (level.share_of_best or 0):.0f} %"
    return f"{share} ({100 * level.value:.1f} %) at epoch {level.epoch}"


def _tell_plateaus(findings: LearningFindings) -> Iterator[str]:
    monitor, noise = findings.monitor, findings.noise
    if findings.plateaus and noise is not None:
        told = [
            f"epochs {each.first} to {each.last} (+{_difference(monitor, each.gain)})"
            for each in findings.plateaus
        ]
        listed = ", ".join(told[:5]) + (f" and {len(told) - 5} more stretches" if len(told) > 5 else "")
        within = _difference(monitor, noise)
        yield f"{monitor} did not improve beyond its noise ({within}) in {listed}."
    if findings.unfinished_gain is not None:
        yield (
            f"{monitor} was still improving at epoch {findings.last_epoch}, the last one measured "
            f"(+{_difference(monitor, findings.unfinished_gain)} over all but the last fifth): more epochs "
            "may give more."
        )


def _tell_extensions(findings: LearningFindings) -> Iterator[str]:
    monitor, noise = findings.monitor, findings.noise or 0.0
    for joint, before, since in findings.extensions:
        was = f"best {monitor} {_value(monitor, before)} until then"
        gain = before - since if is_loss(monitor) else since - before
        verdict = "beyond the noise" if abs(gain) > noise else "within the noise: no change is shown"
        change = f"{_difference(monitor, abs(gain))} {'better' if gain >= 0 else 'worse'}, {verdict}"
        now = f"{_value(monitor, since)} since"
        yield f"The run was continued after epoch {joint}: {was}, {now} ({change})."


def _tell_gap(findings: LearningFindings, conditions: Conditions) -> Iterator[str]:
    if findings.gap_at_end is None:
        return
    if conditions.mixed:
        yield (
            "Training accuracy is that of mixed images (MixUp, CutMix), validation accuracy that of whole "
            "ones: the gap between them isn't comparable and says nothing about overfitting."
        )
        return
    end = f"{100 * findings.gap_at_end:+.1f} points at the last epoch"
    if findings.gap_at_best is not None and findings.best_epoch != findings.last_epoch:
        end = f"{100 * findings.gap_at_best:+.1f} points at the best epoch and {end}"
    end = f"Train minus validation top-1 was {end}"
    if findings.gap_noise is None:
        yield f"{end}."
    elif abs(findings.gap_at_end) <= findings.gap_noise:
        yield f"{end}: not distinguishable from none (noise {100 * findings.gap_noise:.1f} points)."
    else:
        yield f"{end}, more than its noise ({100 * findings.gap_noise:.1f} points)."
    if findings.gap_grew_from is not None and findings.loss_gaps is not None:
        before, after = findings.loss_gaps
        yield (
            f"The gap between validation and training loss grew from epoch {findings.gap_grew_from} on: from "
            f"{before:.3f} to {after:.3f} at the end."
        )
    elif not conditions.same_loss:
        yield (
            "Training loss isn't the function that validation loss is (recipe: loss, smoothing, class "
            "weights), so their gap isn't compared."
        )


def _tell_overfitting(findings: LearningFindings) -> Iterator[str]:
    lowest = findings.lowest_loss_epoch
    if lowest is None or findings.lowest_loss is None:
        return
    least = f"{findings.lowest_loss:.4f} at epoch {lowest}"
    fall = findings.train_loss_fall
    fell = f"{100 * fall:.0f} %" if fall is not None else ""
    if findings.overfitting_since is not None:
        rise = "" if findings.loss_rise is None else f" by {100 * findings.loss_rise:.0f} % until the end"
        yield (
            f"Overfitting set in at epoch {findings.overfitting_since}: smoothed validation loss was lowest "
            f"({least}) and rose{rise}, while training loss fell{' by ' + fell if fell else ''}."
        )
        yield from _tell_late_best(findings)
    elif findings.stalled_since is not None:
        yield (
            f"Validation loss has not improved beyond its noise since epoch {findings.stalled_since} "
            f"(smoothed, lowest {least}), while training loss fell by another {fell}. No rise of validation "
            "loss is shown, so no overfitting in the strict sense."
        )
    elif fall is not None and fall < 0:
        yield (
            f"Smoothed validation loss was lowest ({least}), and training loss rose by {-100 * fall:.0f} % "
            "from there to the end: whatever validation loss did, no overfitting is shown."
        )
    else:
        yield (
            f"No rise of validation loss beyond its noise while training loss fell (smoothed, lowest "
            f"{least}), so no overfitting is shown."
        )


def _tell_late_best(findings: LearningFindings) -> Iterator[str]:
    best, since = findings.best_epoch, findings.overfitting_since
    if best is not None and since is not None and best >= since and not is_loss(findings.monitor):
        yield (
            f"{findings.monitor} was best at epoch {best} all the same: the loss also counts how confident "
            "the wrong answers are."
        )


def _value(key: str, value: float) -> str:
    return f"{value:.4f}" if is_loss(key) else f"{100 * value:.1f} %"


def _difference(key: str, value: float) -> str:
    return f"{value:.4f}" if is_loss(key) else f"{100 * value:.1f} points"
