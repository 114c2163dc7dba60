"""What the network does before it is trained: shapes, first loss, gradients, finite numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from praxiscope.debugging.result import Check, Dots, Status, Table, name_some
from praxiscope.debugging.subject import Subject
from praxiscope.errors import Diverged
from praxiscope.models.build import BuiltModel
from praxiscope.models.layer_uses import LayerUse, list_layers, watch_layers
from praxiscope.models.state import count_parameters

_FAR = 1.5  # EfficientNet-B0 from scratch starts at 1.3 ln K and trains well
_VANISHING, _EXPLODING = 1e-6, 1e3
_DEAD_SHARE = 0.9
_LATER_STEPS = 3


def check_shapes(subject: Subject) -> Check:
    """List the shapes layer by layer for a real batch."""
    built = subject.build()
    images, _ = subject.feed(subject.clean)
    uses = list_layers(built.module, images)
    weights = {name: sum(p.numel() for p in m.parameters()) for name, m in built.module.named_modules()}
    rows = tuple(
        (use.name, use.function, use.kind, _cross(use.shape), weights.get(use.module_name, 0))
        for use in uses
        if use.kind != "block" or use.module_name.count(".") == 0
    )
    with torch.no_grad():
        logits = subject.compute_logits(built.module.eval(), images)
    wanted = (len(images), subject.heads.total)
    good = tuple(logits.shape) == wanted
    line = f"{_cross(tuple(images.shape))} -> {len(uses)} layers -> {_cross(tuple(logits.shape))}"
    return Check(
        name="shapes",
        status="ok" if good else "fault",
        line=line if good else f"{line}; {_cross(wanted)} were expected: a logit for each label",
        rule="Shapes of the outputs for this batch; of a clip's frames each is a row of its own inside the "
        "network. The logits have one number for each label.",
        figures={"input": list(images.shape), "logits": list(logits.shape), "layers": len(uses)},
        tables=(
            Table(
                title="Layers",
                columns=("layer", "class", "kind", "output", "parameters"),
                rows=tuple((*row[:4], f"{row[4]:,}") for row in rows),
            ),
        ),
    )  # fmt: skip


def check_first_loss(subject: Subject) -> Check:
    """Compare the loss before training with that of a guess, of each head."""
    built = subject.build()
    images, targets = subject.feed(subject.clean)
    with torch.no_grad():
        logits = subject.compute_logits(built.module, images)
    by_head, truth = subject.heads.split_logits(logits), subject.heads.split_targets(targets)
    figures, parts, worst = {}, [], 0.0
    for head, own in by_head.items():
        loss = float(nn.functional.cross_entropy(own, truth[head]))
        guess = math.log(own.shape[1])
        figures[head] = {"loss": loss, "expected": guess}
        start = f"{head}: " if len(by_head) > 1 else ""
        parts.append(f"{start}{loss:.3f}, a guess among {own.shape[1]} labels has ln K = {guess:.3f}")
        worst = math.inf if not math.isfinite(loss) else max(worst, loss / max(guess, 1e-9))
    status: Status = "fault" if not math.isfinite(worst) else "warning" if worst > _FAR else "ok"
    advice = "; the head starts so sure of itself that the first steps are spent on undoing it"
    return Check(
        name="first-loss",
        status=status,
        line="cross-entropy before training " + "; ".join(parts) + (advice if status != "ok" else ""),
        rule=f"An untrained network should guess: ln K. Above {_FAR:g} ln K is a warning. Smoothing, "
        "mixing and class weights are left out here.",
        figures={"heads": figures},
    )


@dataclass(frozen=True, kw_only=True)
class _Flow:
    """Gradients of one backward pass."""

    loss: float
    norms: dict[str, float | None]
    """Of each parameter that should train; None where none arrived."""
    weights: dict[str, float]
    frozen_with_gradient: list[str]


def check_gradients(subject: Subject) -> Check:
    """Follow one backward pass: who gets a gradient, how large, and which units are dead."""
    built = subject.build()
    flow = _measure_flow(subject, built)
    dead = _find_dead(subject, subject.build())
    zero = [name for name, norm in flow.norms.items() if norm == 0.0]
    groups = _group_norms(flow)
    faint = [layer for layer, norm in groups.items() if 0 < norm < _VANISHING]
    stuck, faint = _look_again(subject, zero, faint) if zero or faint else ([], [])
    faults = _judge_flow(flow) + _judge_frozen(subject, built)
    if stuck:
        faults.append(f"the gradient of {len(stuck)} tensors is and stays exactly 0 ({name_some(stuck)})")
    if dead:
        faults.append(f"dead activations in {name_some(list(dead))}: no unit gives a positive number")
    known = [norm for norm in groups.values() if norm > 0]
    spread = max(known) / min(known) if known else math.nan
    warnings = []
    if faint:
        warnings.append(f"vanishing: below {_VANISHING:g} in {name_some(faint)}")
    if known and max(known) > _EXPLODING:
        warnings.append(f"exploding: {max(known):.1e} in {max(groups, key=lambda g: groups[g])}")
    status: Status = "fault" if faults else "warning" if warnings else "ok"
    line = f"{len(flow.norms)} tensors train"
    if len(zero) > len(stuck):
        line += f" ({len(zero) - len(stuck)} of them from the second step on: their blocks start as nothing)"
    if known:
        line += f"; gradient norms {min(known):.1e} to {max(known):.1e} over {len(groups)} layers"
    return Check(
        name="gradients",
        status=status,
        line="; ".join([line, *faults, *warnings]),
        rule="Gradient of the mean loss of one batch. Every tensor that trains needs one, frozen ones "
        f"have none; what is 0 or faint is looked at again after {_LATER_STEPS} steps, as a block whose last "
        f"scale starts at 0 passes nothing on before. Below "
        f"{_VANISHING:g} it vanishes, above {_EXPLODING:g} it explodes. A layer is dead where "
        f"{100 * _DEAD_SHARE:.0f} % of its units and more never give a positive number.",
        figures={"loss": flow.loss, "layers": groups, "spread": spread, "dead": dead},
        pictures=(
            Dots(
                name="gradients",
                title="Gradient norm of each layer, from the input on",
                x_label="norm of the mean loss's gradient",
                rows=tuple(
                    (name, norm, norm == 0 and name in _layers_of(stuck)) for name, norm in groups.items()
                ),
            ),
        ),
    )


def _measure_flow(subject: Subject, built: BuiltModel) -> _Flow:
    module = built.module
    module.train()
    images, targets = subject.feed(subject.clean)
    loss = subject.loss(subject.compute_logits(module, images), targets) / len(images)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return _Flow(
        loss=float(loss.detach()),
        norms={name: None if p.grad is None else float(p.grad.float().norm()) for name, p in trained.items()},
        weights={name: float(p.detach().float().norm()) for name, p in trained.items()},
        frozen_with_gradient=[
            name for name, p in module.named_parameters() if not p.requires_grad and p.grad is not None
        ],
    )


def _judge_flow(flow: _Flow) -> list[str]:
    faults = []
    detached = [name for name, norm in flow.norms.items() if norm is None]
    if detached:
        faults.append(
            f"no gradient reaches {len(detached)} tensors that should train ({name_some(detached)})"
        )
    broken = [name for name, norm in flow.norms.items() if norm is not None and not math.isfinite(norm)]
    if broken:
        faults.append(f"the gradient of {name_some(broken)} is not finite")
    if flow.frozen_with_gradient:
        faults.append(f"frozen tensors have a gradient ({name_some(flow.frozen_with_gradient)})")
    return faults


def _look_again(subject: Subject, zero: list[str], faint: list[str]) -> tuple[list[str], list[str]]:
    """Return which tensors still have a gradient of exactly 0, and layers a faint one, after some real steps.

    Blocks whose last scale starts at 0 or at 1e-6 (layer scale) pass next to nothing on before.
    """
    built = subject.build()
    steps = subject.start(built, False)
    try:
        for _ in range(_LATER_STEPS):
            steps.step(subject.clean, lr=subject.recipe.train.lr)
    except Diverged:  # the check of the updates tells that
        return [], []
    later = _measure_flow(subject, built)
    norms = _group_norms(later)
    return (
        [name for name in zero if later.norms[name] == 0.0],
        [layer for layer in faint if norms[layer] < _VANISHING],
    )


def _layers_of(names: list[str]) -> set[str]:
    return {name.rpartition(".")[0] or name for name in names}


def _judge_frozen(subject: Subject, built: BuiltModel) -> list[str]:
    """Compare what doesn't train with what the recipe freezes."""
    fixed = [name for name, p in built.module.named_parameters() if not p.requires_grad]
    asked = 0 if built.frozen is None else built.frozen.num_frozen
    actual = count_parameters(built.module) - count_parameters(built.module, trainable=True)
    if actual == asked:
        return []
    wish = ", ".join(subject.recipe.model.freeze) or "nothing"
    return [
        f"{actual:,} parameters don't train ({name_some(fixed)}), but the recipe freezes {wish} ({asked:,})"
    ]


def _group_norms(flow: _Flow) -> dict[str, float]:
    """Return the norm over each layer's tensors, in their order; 0 where no gradient arrived."""
    squares: dict[str, float] = {}
    for name, norm in flow.norms.items():
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + (norm or 0.0) ** 2
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _find_dead(subject: Subject, built: BuiltModel) -> dict[str, float]:
    """Return activations of which nearly all units never give a positive number, with that share."""
    images, _ = subject.feed(subject.clean)
    uses = [use for use in list_layers(built.module, images[:1]) if use.function in {"ReLU", "ReLU6"}]
    highest: dict[str, Tensor] = {}

    def note(use: LayerUse, output: Tensor) -> None:
        highest[use.name] = use.to_units(output.detach()).amax(dim=(0, 2))

    with torch.no_grad(), watch_layers(built.module.eval(), uses, note):
        subject.compute_logits(built.module, images)
    shares = {name: float((high <= 0).float().mean()) for name, high in highest.items()}
    return {name: share for name, share in shares.items() if share >= _DEAD_SHARE}


def check_finite(subject: Subject) -> Check:
    """Watch losses, activations and logits for numbers that are not finite; compare precisions."""
    built = subject.build()
    module = built.module.eval()
    images, targets = subject.feed(subject.clean)
    broken: list[str] = []

    def note(use: LayerUse, output: Tensor) -> None:
        if not bool(torch.isfinite(output).all()):
            broken.append(use.name)

    uses = list_layers(module, images[:1])
    with torch.no_grad():
        with watch_layers(module, uses, note):
            own = subject.compute_logits(module, images)
        full = module(images).float()
        loss = float(subject.loss(own, targets)) / len(images)
    gap = float((own - full).abs().max())
    scale = float(full.abs().max())
    precision = subject.runtime.precision
    agree = float((own.argmax(1) == full.argmax(1)).float().mean())
    problems = []
    if broken:
        problems.append(f"numbers that are not finite come first out of {broken[0]}")
    if not math.isfinite(loss):
        problems.append(f"the loss is {loss}")
    line = (
        f"all {len(uses)} layers finite" if not broken else f"{len(broken)} of {len(uses)} layers not finite"
    )
    if precision != "fp32":
        line += (
            f"; logits in {precision} differ from fp32 by {gap:.2g} (largest {scale:.2g}), answers agree on "
        )
        line += f"{100 * agree:.0f} %"
    else:
        line += "; the run computes in fp32"
    return Check(
        name="finite",
        status="fault" if problems else "ok",
        line="; ".join([line, *problems]),
        rule="Every layer's output for a real batch in the run's precision, and its logits beside float32's.",
        figures={
            "precision": precision, "loss": loss, "largest_difference": gap, "largest_logit": scale,
            "agreement": agree, "layers_not_finite": broken[:20],
        },
    )  # fmt: skip


def _cross(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
