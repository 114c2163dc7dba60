"""What the layers of a network do over a sample of images: activations, gradients, dead units, norms.

One forward and one backward pass over each batch; histograms are filled as the numbers come by, so memory
doesn't grow with the sample. The network isn't touched: gradients are taken with respect to leaves that share
its weights' memory, nothing is left in ``.grad``, no random number is drawn, BatchNorm statistics stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from praxiscope.models.layer_uses import LayerUse, list_layers, watch_layers
from praxiscope.models.split import evaluating
from praxiscope.models.temporal import allow_recurrent_gradients
from praxiscope.stats.float_histogram import INFINITE, NUM_BINS, SHIFT, FloatHistogram, fold_zeros
from praxiscope.tensors import Heads

SILENT = 0.01
"""A unit of a smooth activation is dead where it never exceeds this share of its layer's RMS."""
_RECTIFIERS = frozenset({"relu", "relu6"})
_SMOOTH = frozenset({"gelu", "gelutanh", "quickgelu", "silu", "swish", "mish", "hardswish", "hardmish"})
# Where an activation is so flat that next to no gradient passes: (at or below, at or above).
_FLAT: dict[str, tuple[float, float]] = {
    "sigmoid": (0.01, 0.99),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-0.99, 0.99),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-0.99, 0.99),
    "relu6": (-math.inf, 6.0),
}
DEAD_RULE = (
    "dead: a unit (channel of a map, feature of a token) that gives no positive number at any place of any "
    "image; behind GELU, SiLU and the like, which are hardly ever exactly zero: one whose values all stay "
    f"below {100 * SILENT:.0f} % of the layer's root mean square. Other layers have no such rule."
)
SATURATED_RULE = (
    "saturated: at the flat end of a bounded activation: sigmoid within 0.01 of 0 or 1, tanh within 0.01 of "
    "-1 or 1, ReLU6 at 6, hard sigmoid and hard tanh at their ends."
)
NORM_RULE = (
    "gradient norms: of the cross-entropy of one sample (of several heads the sum of theirs) with respect "
    "to the layer's output, root mean square over the samples; norm ratio: norm of the mean loss's gradient "
    "over the norm of the weights."
)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """What one layer did."""

    name: str
    """The use's name, ``act1#2``."""
    kind: str
    """``act``, ``block`` ..., as ``LayerUse.kind``."""
    function: str
    """Class of the module: ``ReLU6``."""
    units: int
    """Channels of a map, features of a token or vector."""
    activations: FloatHistogram
    """Every number that it put out."""
    gradients: FloatHistogram
    """Gradient of each image's loss with respect to each of them."""
    gradient_norm: float
    """Root mean square over images of the norm of an image's gradient."""
    dead: int | None
    """Dead units (`DEAD_RULE`); None where the layer has no such rule."""
    saturated_share: float | None
    """Share of saturated numbers (`SATURATED_RULE`); None where the layer isn't bounded."""

    @property
    def dead_share(self) -> float | None:
        """Dead units over units."""
        return None if self.dead is None else self.dead / self.units

    def to_dict(self) -> dict[str, Any]:
        """Return its figures for JSON."""
        return {
            "name": self.name, "kind": self.kind, "function": self.function, "units": self.units,
            "dead": self.dead, "dead_share": self.dead_share, "saturated_share": self.saturated_share,
            "gradient_norm": self.gradient_norm if math.isfinite(self.gradient_norm) else None,
            "activations": self.activations.to_dict(), "gradients": self.gradients.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WeightRow:
    """How one layer's weights would move."""

    name: str
    """The module's name."""
    weight_norm: float
    """Euclidean norm of its weights, biases left out."""
    gradient_norm: float
    """Norm of the gradient of the mean loss with respect to them."""

    @property
    def ratio(self) -> float:
        """Gradient norm over weight norm; NaN where the weights are all zero."""
        return self.gradient_norm / self.weight_norm if self.weight_norm else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return its figures for JSON."""
        figures = {"weight_norm": self.weight_norm, "gradient_norm": self.gradient_norm, "ratio": self.ratio}
        return {"name": self.name, **{k: v if math.isfinite(v) else None for k, v in figures.items()}}


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What the layers of a network did over a sample."""

    num_images: int
    """Images of the sample, or clips."""
    loss: float
    """Mean cross-entropy over it."""
    layers: tuple[LayerRow, ...]
    """In the network's order."""
    weights: tuple[WeightRow, ...]
    """Of convolutions and linear layers, in the order in which they are registered."""
    thing: Literal["image", "clip"] = "image"
    """What the sample is of."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, with the rules that its figures follow."""
        return {
            "schema": 1,
            "num_images": self.num_images,
            "thing": self.thing,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "layers": [each.to_dict() for each in self.layers],
            "weights": [each.to_dict() for each in self.weights],
            "rules": {"dead": DEAD_RULE, "saturated": SATURATED_RULE, "norms": NORM_RULE},
        }


def choose_measured(uses: Sequence[LayerUse]) -> tuple[LayerUse, ...]:
    """Return the uses worth measuring: activation functions, blocks that don't end in one, and the logits."""
    acts = {use.same_as or use.name for use in uses if use.kind == "act"}
    chosen, seen = [], set()
    for use in uses:
        root = use.same_as or use.name
        wanted = use.kind == "act" or (use.kind == "block" and root not in acts) or use is uses[-1]
        if wanted and root not in seen:
            chosen.append(use)
            seen.add(root)
    return tuple(chosen)


def measure_layers(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    uses: Sequence[LayerUse] | None = None,
    *,
    heads: Heads | None = None,
) -> LayerReport:
    """Run a network forwards and backwards over a sample and describe its layers.

    Args:
        module: An unwrapped network, in any mode: it is measured in evaluation mode and left as it was.
        batches: Pairs of normalised images, float32 (B, 3, H, W), or clips, (B, T, 3, H, W), and targets,
            int64 (B,) or (B, M) of M heads, on its device.
        uses: Layers to measure; ``choose_measured`` of the network's own where None.
        heads: Which logits belong to which head; None where there is only one.

    Returns:
        Histograms, dead units and norms.

    Raises:
        ValueError: There is no batch.
    """
    weights = {
        f"{name}.weight": layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)  # noqa: SLF001 - no public common base
    }
    # Leaves of their own, on the same memory: what is frozen gets a gradient too, and .grad stays as it is.
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    sums = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    tallies: list[_Tally] = []
    images, loss_sum = 0, 0.0
    thing: Literal["image", "clip"] = "image"
    for inputs, targets in batches:
        if not tallies:
            tallies = [_Tally(use) for use in (uses or choose_measured(list_layers(module, inputs[:1])))]
        by_name = {tally.use.name: tally for tally in tallies}
        watched = watch_layers(module, [t.use for t in tallies], lambda use, out: by_name[use.name].add(out))  # noqa: B023
        with torch.enable_grad(), evaluating(module), allow_recurrent_gradients(), watched:
            logits = torch.func.functional_call(module, leaves, (inputs,))
            loss = _sum_losses(logits.float(), targets, heads)
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for name, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                sums[name] += gradient
        images += len(inputs)
        thing = "clip" if inputs.ndim == 5 else "image"
        loss_sum += float(loss.detach())
    if not images:
        raise ValueError("there are no images to measure layers on; give at least one batch")
    return LayerReport(
        num_images=images,
        loss=loss_sum / images,
        layers=tuple(tally.finish(images) for tally in tallies),
        weights=tuple(
            WeightRow(
                name=name.removesuffix(".weight"),
                weight_norm=_norm(leaf.detach()),
                gradient_norm=_norm(sums[name]) / images,
            )
            for name, leaf in leaves.items()
        ),
        thing=thing,
    )


def _sum_losses(logits: Tensor, targets: Tensor, heads: Heads | None) -> Tensor:
    """Return the cross-entropy of a batch, the sum over its samples and heads."""
    if heads is None:
        return nn.functional.cross_entropy(logits, targets, reduction="sum")
    own = heads.split_targets(targets)
    losses = [
        nn.functional.cross_entropy(part, own[head], reduction="sum")
        for head, part in heads.split_logits(logits).items()
    ]
    return torch.stack(losses).sum()


def _plain_name(function: str) -> str:
    """Return an activation's name as torch and timm share it.

    >>> _plain_name("GELUTanh"), _plain_name("SwishMe"), _plain_name("ReLU6")
    ('gelutanh', 'swish', 'relu6')
    """
    return function.lower().removesuffix("me")


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.double()))


@dataclass
class _Sums:
    """A histogram that is being filled."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(NUM_BINS, dtype=torch.int64))
    total: float = 0.0
    square_total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, values: Tensor) -> None:
        flat = _flatten(values.detach().float())
        codes = (flat.view(torch.int32) >> SHIFT) & (NUM_BINS - 1)
        counts = torch.bincount(codes, minlength=NUM_BINS).cpu()
        self.counts += counts
        if int(counts[INFINITE].sum()):
            flat = flat[torch.isfinite(flat)]
        if flat.numel():
            # Sums of a batch in float32 are pairwise; double precision here would cost ten times as much.
            self.total += float(flat.sum())
            self.square_total += float(torch.dot(flat, flat))
            low, high = torch.aminmax(flat)
            self.minimum, self.maximum = min(self.minimum, float(low)), max(self.maximum, float(high))

    def finish(self) -> FloatHistogram:
        known = math.isfinite(self.minimum)
        return FloatHistogram(
            counts=fold_zeros(self.counts.numpy()),
            total=self.total,
            square_total=self.square_total,
            minimum=self.minimum if known else math.nan,
            maximum=self.maximum if known else math.nan,
        )


def _flatten(values: Tensor) -> Tensor:
    """Return the numbers in the order of their memory, without a copy where there is such an order."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.reshape(-1)


class _Tally:
    """What is known so far of one layer."""

    def __init__(self, use: LayerUse) -> None:
        self.use = use
        self._activations, self._gradients = _Sums(), _Sums()
        self._highest: Tensor | None = None
        self._lowest: Tensor | None = None
        self._saturated = 0

    def add(self, output: Tensor) -> None:
        """Take in the outputs of a batch, and later the gradients that come back to them."""
        values = output.detach()
        self._activations.add(values)
        units = self.use.to_units(values).float()
        high, low = units.amax(dim=(0, 2)), units.amin(dim=(0, 2))
        self._highest = high if self._highest is None else torch.maximum(self._highest, high)
        self._lowest = low if self._lowest is None else torch.minimum(self._lowest, low)
        if (ends := _FLAT.get(_plain_name(self.use.function))) is not None:
            self._saturated += int(((values <= ends[0]) | (values >= ends[1])).sum())
        if output.requires_grad:
            output.register_hook(self._gradients.add)  # type: ignore[no-untyped-call]

    def finish(self, images: int) -> LayerRow:
        activations, gradients = self._activations.finish(), self._gradients.finish()
        is_bounded = _plain_name(self.use.function) in _FLAT
        return LayerRow(
            name=self.use.name,
            kind=self.use.kind,
            function=self.use.function,
            units=self.use.channels,
            activations=activations,
            gradients=gradients,
            gradient_norm=math.sqrt(gradients.square_total / images),
            dead=self._count_dead(activations),
            saturated_share=self._saturated / max(activations.count, 1) if is_bounded else None,
        )

    def _count_dead(self, activations: FloatHistogram) -> int | None:
        assert self._highest is not None and self._lowest is not None  # noqa: PT018
        function = _plain_name(self.use.function)
        # A block that ends in F.relu has no module to tell: nothing negative, and zeros, tell as much.
        if function in _RECTIFIERS or (
            self.use.kind != "act" and activations.minimum >= 0 and activations.zeros > 0
        ):
            return int((self._highest <= 0).sum())
        if function in _SMOOTH:
            largest = torch.maximum(self._highest.abs(), self._lowest.abs())
            return int((largest < SILENT * activations.rms).sum()) if activations.rms else len(largest)
        return None
