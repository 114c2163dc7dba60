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
_ZERO_STEPS = 40
_PATIENCE = 40  # steps without a hundredth of progress after which nothing will come


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
    """Learn one fixed batch by heart: without augmentation and regularisation this must succeed."""
    built = subject.build()
    steps = subject.start(built, True)
    losses, shares, problem = _learn(subject, steps, subject.clean, most=MAX_STEPS)
    learnt = bool(losses) and losses[-1] < _LEARNT and shares[-1] > 0.99
    fell = 1 - min(losses) / losses[0] if losses else 0.0
    status: Status
    count = len(subject.clean.rows)
    if problem:
        status, verdict = "fault", f"diverged after {len(losses)} steps: {problem}"
    elif learnt:
        status, verdict = "ok", f"{count} samples known by heart after {len(losses)} steps"
    elif fell < 0.2:
        status = "fault"
        way = "rose" if losses[-1] > losses[0] else "only went"
        verdict = (
            f"not learnt: in {len(losses)} steps the loss {way} from {losses[0]:.3f} to {losses[-1]:.3f}"
        )
    else:
        status = "warning"
        verdict = (
            f"on its way: the loss went from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps, "
            f"right on {100 * shares[-1]:.0f} %"
        )
    return Check(
        name="overfits",
        status=status,
        line=verdict,
        rule=f"Up to {MAX_STEPS} steps, or {MAX_S:g} s, on one batch as evaluation sees it, with the "
        "recipe's optimiser at its peak rate, without decay, smoothing, dropout, mixing and clipping. "
        "It shows that forward, loss, backward and optimiser fit together. It can't show that labels "
        "are right: a network learns random labels by heart as well.",
        figures={"steps": len(losses), "losses": losses, "top1": shares, "samples": count},
        pictures=(
            Curves(
                name="overfits",
                title="One batch learnt by heart",
                x_label="step",
                y_label="loss (mean over the batch)",
                series=(("loss", tuple(losses)),),
                marks=(("known by heart", _LEARNT),),
                log_y=True,
            ),
        )
        if losses
        else (),
    )  # fmt: skip


def _learn(
    subject: Subject, steps: Steps, batch: Batch, *, most: int
) -> tuple[list[float], list[float], str]:
    """Step on one batch until it is known by heart; return losses, shares of right answers, a problem."""
    losses: list[float] = []
    shares: list[float] = []
    started = time.monotonic()
    for _ in range(most):
        if time.monotonic() - started > MAX_S:
            break
        try:
            loss = steps.step(batch, lr=subject.recipe.train.lr)
        except Diverged as error:
            return losses, shares, str(error).partition(".")[0]
        losses.append(loss)
        shares.append(_measure_right(subject, steps.module, batch) if loss < 2 * _LEARNT else 0.0)
        if loss < _LEARNT and shares[-1] > 0.99:
            break
        if len(losses) == _PATIENCE and min(losses) > 0.99 * losses[0]:
            break
    if losses:
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
    blank = Batch(
        images=torch.full_like(subject.clean.images, 127),
        targets=subject.clean.targets,
        rows=subject.clean.rows,
    )
    ends = []
    for batch in (subject.clean, blank):
        losses, _, problem = _learn(subject, subject.start(subject.build(), True), batch, most=_ZERO_STEPS)
        if problem or not losses:
            return Check(
                name="baseline", status="fault", line=f"diverged: {problem}", rule=_BASELINE_RULE,
            )  # fmt: skip
        ends.append(min(losses))
    real, grey = ends
    good = real < 0.95 * grey
    line = f"loss {real:.3f} with real samples, {grey:.3f} with grey ones"
    return Check(
        name="baseline",
        status="ok" if good else "fault",
        line=line if good else f"{line}: the network learns no more from its input than from none",
        rule=_BASELINE_RULE,
        figures={"real": real, "grey": grey},
    )


_BASELINE_RULE = (
    f"Lowest loss within {_ZERO_STEPS} steps on one batch, with its pixels and with all of them grey "
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
