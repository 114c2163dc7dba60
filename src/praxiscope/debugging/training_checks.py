"""What a few real optimiser steps do: updates, one batch learnt by heart, the input's part, the schedule."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

from praxiscope.debugging.result import Check, Curves, Dots, Status, name_some
from praxiscope.debugging.subject import Steps, Subject
from praxiscope.errors import Diverged
from praxiscope.models.state import unwrap_module
from praxiscope.tensors import Batch

_UPDATE_STEPS = 5
_LOW, _LARGE, _HIGH = 1e-6, 1e-1, 1.0  # the rule of thumb is 1e-3; above 1 a step replaces the weights
MAX_STEPS, MAX_S = 120, 20.0
_LEARNT = 0.1  # mean loss below which a batch is known by heart
FEW = 16
"""Samples that are learnt by heart."""
_PATIENCE = 40  # steps without a hundredth of progress after which nothing will come
_CLEAR_FALL = 0.4  # of the loss: more than the labels' frequencies alone would bring


def check_updates(subject: Subject) -> Check:
    """Make a few steps at the peak learning rate and see which tensors moved, and how far."""
    built = subject.build()
    module = unwrap_module(built.module)
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    frozen = _list_frozen(module)
    steps = subject.start(built, False)
    lr = subject.recipe.train.lr
    losses: list[float] = []
    problem = ""
    for number in range(_UPDATE_STEPS):
        try:
            losses.append(
                steps.step(subject.read_augmented(subject.plans[number % len(subject.plans)]), lr=lr)
            )
        except Diverged as error:
            problem = f"diverged at step {number + 1}: {str(error).partition('.')[0]}"
            break
    made = max(1, len(losses))
    after = {name: value.detach() for name, value in module.state_dict().items()}
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    ratios = {name: _measure_move(before[name], after[name]) / made for name in sorted(trained)}
    faults = [problem] if problem else []
    still = [name for name in ratios if torch.equal(before[name], after[name])]
    if still and not problem:
        faults.append(
            f"{len(still)} of {len(ratios)} tensors that should train did not move ({name_some(still)})"
        )
    moved = [name for name in frozen if not torch.equal(before[name], after[name])]
    if moved:
        kind = "BatchNorm statistics" if "running_" in moved[0] else "tensors"
        faults.append(f"{len(moved)} frozen {kind} moved ({name_some(moved)})")
    return _describe_updates(ratios, before, faults, losses=losses, lr=lr, steps=made)


def _describe_updates(
    ratios: dict[str, float],
    before: dict[str, Tensor],
    faults: list[str],
    *,
    losses: list[float],
    lr: float,
    steps: int,
) -> Check:
    weights = {name: r for name, r in ratios.items() if before[name].ndim > 1 and math.isfinite(r)}
    middle = sorted(weights.values())[len(weights) // 2] if weights else math.nan
    warnings = []
    if losses and max(losses) > 10 * max(losses[0], 1e-9):
        faults.append(
            f"the loss rose from {losses[0]:.2f} to {max(losses):.3g}: the learning rate is far too high"
        )
    if middle > _HIGH:
        faults.append(
            f"a step changes weights by {100 * middle:.0f} %: the learning rate {lr:.3g} is far too high"
        )
    elif middle > _LARGE:
        warnings.append("that is far above 1e-3: few steps can be right at such a rate, but for a new head")
    elif middle < _LOW:
        warnings.append(f"that is far below 1e-3: at the learning rate {lr:.3g} next to nothing is learnt")
    start = f"{steps} steps at the peak learning rate {lr:.3g}"
    line = f"{start}: a step changes weights by {middle:.1e} of their norm"
    status: Status = "fault" if faults else "warning" if warnings else "ok"
    return Check(
        name="updates",
        status=status,
        line="; ".join([f"{line} (median)", *faults, *warnings]),
        rule="Norm of a step over the norm of the weights. About 1e-3 is a rule of thumb for a healthy run; "
        "it is lower for fine-tuning, and the first Adam steps are larger than later ones. Frozen tensors, "
        "BatchNorm statistics included, must not move at all.",
        figures={"median_ratio": middle, "losses": losses, "ratios": ratios, "steps": steps},
        pictures=(
            Dots(
                name="updates",
                title="Update of a step over the weights, at the peak learning rate",
                x_label="norm of the step / norm of the weights; shaded: 1e-4 to 1e-2",
                rows=tuple((name, ratio, ratio == 0) for name, ratio in weights.items()),
                band=(1e-4, 1e-2),
            ),
        ),
    )  # fmt: skip


def _list_frozen(module: nn.Module) -> list[str]:
    """Return what must not move: parameters that don't train, and buffers of modules whose own don't."""
    names = [name for name, p in module.named_parameters() if not p.requires_grad]
    for prefix, each in module.named_modules():
        own = list(each.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            names += [f"{prefix}.{name}".lstrip(".") for name, _ in each.named_buffers(recurse=False)]
    return [name for name in names if name in module.state_dict()]


def _measure_move(before: Tensor, after: Tensor) -> float:
    size = float(before.float().norm())
    return float((after.float() - before.float()).norm()) / size if size else math.nan


def check_overfits(subject: Subject) -> Check:
    """Learn a few fixed samples by heart: without augmentation and regularisation this must succeed."""
    batch = _take_few(subject.clean)
    steps = subject.start(subject.build(), True)
    losses, shares, problem = _learn(subject, steps, batch, most=MAX_STEPS)
    status, verdict = _judge_learning(losses, shares, problem, count=len(batch.rows))
    return Check(
        name="overfits",
        status=status,
        line=verdict,
        rule=f"Up to {MAX_STEPS} steps, or {MAX_S:g} s, on at most {FEW} samples as evaluation sees them, "
        "with the recipe's optimiser at its peak rate, without decay, smoothing, dropout, mixing, clipping. "
        "It shows that forward, loss, backward and optimiser fit together. It can't show that labels "
        "are right: a network learns random labels by heart as well.",
        figures={"steps": len(losses), "losses": losses, "top1": shares, "samples": len(batch.rows)},
        pictures=(
            Curves(
                name="overfits",
                title="A few samples learnt by heart",
                x_label="step",
                y_label="loss (mean over the samples)",
                series=(("loss", tuple(losses)),),
                marks=(("known by heart", _LEARNT),),
                log_y=True,
            ),
        )
        if losses
        else (),
    )  # fmt: skip


def _judge_learning(
    losses: list[float], shares: list[float], problem: str, *, count: int
) -> tuple[Status, str]:
    """Return how the learning by heart went. A slow machine or a low rate is no fault."""
    if problem:
        return "fault", f"diverged after {len(losses)} steps: {problem}"
    if _is_learnt(losses[-1], shares[-1]):
        return "ok", f"{count} samples known by heart after {len(losses)} steps"
    fell = 1 - min(losses) / losses[0]
    told = f"in {len(losses)} steps the loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
    if fell >= _CLEAR_FALL:
        return "ok", f"on its way: {told}, right on {100 * shares[-1]:.0f} % of {count} samples"
    if _is_stuck(losses):
        return "fault", f"not learnt: {told} and falls no further"
    if len(losses) < _PATIENCE:
        return "warning", f"too slow here to tell: {told}, and {MAX_S:g} s were over"
    return "warning", f"slow: {told}; the learning rate may be too low"


def _take_few(batch: Batch) -> Batch:
    """Return the first samples of a batch: as many as can be learnt by heart on a laptop."""
    return Batch(images=batch.images[:FEW], targets=batch.targets[:FEW], rows=batch.rows[:FEW])


def _is_learnt(loss: float, share: float) -> bool:
    return loss < _LEARNT and share > 0.99


def _is_stuck(losses: list[float]) -> bool:
    """Whether the last steps brought less than a hundredth, given enough steps to say so."""
    if len(losses) < _PATIENCE:
        return False
    before = losses[: -_PATIENCE + 1]
    return min(losses[-_PATIENCE + 1 :]) > 0.99 * min(before)


def _learn(
    subject: Subject, steps: Steps, batch: Batch, *, most: int
) -> tuple[list[float], list[float], str]:
    """Step on one batch until it is known by heart; return losses, shares of right answers, a problem."""
    losses: list[float] = []
    shares: list[float] = []
    started = time.monotonic()
    for _ in range(most):
        try:
            loss = steps.step(batch, lr=subject.recipe.train.lr)
        except Diverged as error:
            return losses, shares, str(error).partition(".")[0]
        losses.append(loss)
        shares.append(_measure_right(subject, steps.module, batch) if loss < 2 * _LEARNT else 0.0)
        if _is_learnt(loss, shares[-1]) or _is_stuck(losses) or time.monotonic() - started > MAX_S:
            break
    shares[-1] = _measure_right(subject, steps.module, batch)
    return losses, shares, ""


def _measure_right(subject: Subject, module: nn.Module, batch: Batch) -> float:
    """Return the share of a batch that is right in all heads, in training mode, as the loss was computed."""
    images, targets = subject.feed(batch)
    state = {name: value.clone() for name, value in module.named_buffers()}
    with torch.no_grad():
        logits = subject.compute_logits(module, images)
        for name, value in module.named_buffers():  # a look must not move BatchNorm's statistics
            value.copy_(state[name])
    right = torch.ones(len(images), dtype=torch.bool, device=logits.device)
    truth = subject.heads.split_targets(targets)
    for head, own in subject.heads.split_logits(logits).items():
        right &= own.argmax(1) == truth[head]
    return float(right.float().mean())


def check_baseline(subject: Subject) -> Check:
    """Train on a grey input: real images must give a lower loss, or the network doesn't look at them."""
    batch = _take_few(subject.clean)
    if len(torch.unique(batch.targets, dim=0)) == 1:
        line = f"the {len(batch.rows)} samples have one label: no pixel is needed to know it"
        return Check(name="baseline", status="ok", line=line, rule=_BASELINE_RULE)
    blank = Batch(images=torch.full_like(batch.images, 127), targets=batch.targets, rows=batch.rows)
    curves: list[list[float]] = []
    for shown in (batch, blank):
        losses, _, problem = _learn(
            subject, subject.start(subject.build(), True), shown, most=_compute_steps(curves)
        )
        if problem:
            return Check(
                name="baseline", status="fault", line=f"diverged: {problem}", rule=_BASELINE_RULE,
            )  # fmt: skip
        curves.append(losses)
    status, verdict = _compare_curves(*curves)
    return Check(
        name="baseline",
        status=status,
        line=verdict,
        rule=_BASELINE_RULE,
        figures={"real": min(curves[0]), "grey": min(curves[1]), "steps": len(curves[0])},
    )


def _compute_steps(curves: list[list[float]]) -> int:
    """Return how many steps the grey input gets: as many as the real one had."""
    return len(curves[0]) if curves else MAX_STEPS


def _compare_curves(real: list[float], grey: list[float]) -> tuple[Status, str]:
    real = real[: len(grey)]  # the grey input may have run out of time earlier
    line = f"loss {min(real):.3f} with real samples, {min(grey):.3f} with grey ones"
    if min(real) < 0.95 * min(grey):
        return "ok", line
    told_apart = min(real) < 0.999 * min(grey)
    open_still = len(real) < _PATIENCE or (told_apart and not _is_stuck(real))
    if open_still and min(real) > (1 - _CLEAR_FALL / 2) * real[0]:
        return "warning", f"{line}: too little was learnt in {len(real)} steps to tell"
    return "fault", f"{line}: the network learns no more from its input than from none"


_BASELINE_RULE = (
    f"Lowest loss on at most {FEW} samples, with their pixels and, for as many steps, with all of them grey "
    "(Karpathy's recipe: an input-independent baseline)."
)


def check_schedule(subject: Subject) -> Check:
    """Draw the learning rate of the whole run."""
    section = subject.recipe.train
    total = section.epochs * subject.steps_per_epoch
    trace = [subject.compute_lr(step) for step in range(total)]
    peak = max(trace)
    problems = []
    if peak < 1e-8:
        problems.append(f"it never exceeds {peak:.1e}: nothing would be learnt")
    if peak < 0.99 * section.lr and section.schedule != "plateau":
        problems.append(f"it never gets to train.lr {section.lr:.3g}, only to {peak:.3g}")
    falls = "" if section.schedule != "plateau" else " (plateau: reductions depend on the run)"
    at = trace.index(peak) + 1
    line = (
        f"{section.schedule}{falls}: {total:,} steps, from {trace[0]:.2e} to {peak:.2e} at step {at:,}, "
        f"ends at {trace[-1]:.2e}"
    )
    every = max(1, total // 2000)
    return Check(
        name="schedule",
        status="warning" if problems else "ok",
        line="; ".join([line, *problems]),
        rule="As the loop computes it, a number an optimiser step.",
        figures={"steps": total, "first": trace[0], "peak": peak, "peak_at": at, "last": trace[-1]},
        pictures=(
            Curves(
                name="schedule", title="Learning rate over the whole run",
                x_label="step" if every == 1 else f"step (every {every}th)", y_label="learning rate",
                series=(("learning rate", tuple(trace[::every])),),
            ),
        ),
    )  # fmt: skip
