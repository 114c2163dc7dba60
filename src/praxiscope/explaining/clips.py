"""What a network looks at in a clip: maps of every frame, and how much each frame matters to the answer.

A network of frames puts the frames of all clips into one batch, so a layer's output and its gradient are of
single frames, while the score that is differentiated is the clip's. A video network's layers put out volumes
(C, t, h, w), or tokens that stand for t x h x w patches: a channel's weight is the mean of its gradient over
all of them, and the maps of the t steps are brought to the T frames by interpolation in time too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.errors import Diverged, UsageError
from praxiscope.explaining.activations import ImageActivations, LayerMaps, rank_channels
from praxiscope.explaining.layers import choose_layers, find_backbone_end, find_layer
from praxiscope.explaining.saliency.cam import (
    compute_eigencam,
    compute_gradcam,
    compute_gradcam_plus_plus,
    read_layer,
)
from praxiscope.explaining.saliency.catalog import Method, find_methods
from praxiscope.explaining.saliency.target import choose_last, find_target_use
from praxiscope.explaining.subject import Subject, hold_still
from praxiscope.models.layer_uses import LayerUse, list_layers, watch_layers
from praxiscope.models.temporal import AttentionPool, TemporalHead, TransformerPool, allow_recurrent_gradients

CLIP_METHODS = ("gradcam", "gradcam++", "eigencam")
"""Methods that draw a map of each frame."""
Clips = npt.NDArray[np.uint8]
"""(N, T, S, S, 3), RGB in [0, 255]."""
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipMaps:
    """Where in each frame the evidence for a class lies.

    Attributes:
        maps: float32 (N, T, S, S), larger is more evidence; all frames of a clip in the same unit, so that a
            frame's sum says how much of the clip's evidence it holds.
        method: name of the method.
        layer: that was looked at.
    """

    maps: Values
    method: str
    layer: str

    @property
    def evidence(self) -> Values:
        """Share of each frame in its clip's evidence, (N, T); zeros where there is none."""
        sums = self.maps.sum(axis=(2, 3))
        whole = sums.sum(axis=1, keepdims=True)
        shares: Values = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
        return shares


def find_clip_methods(names: list[str] | None, subject: Subject) -> tuple[Method, ...]:
    """Return the methods of these names, by default Grad-CAM.

    Raises:
        UsageError: One is unknown, or explains single images only.
    """
    methods = find_methods(names or ["gradcam"], subject.family)
    wrong = next((method.name for method in methods if method.name not in CLIP_METHODS), None)
    if wrong is not None:
        raise UsageError(
            f"The method '{wrong}' explains single images; for clips choose of {', '.join(CLIP_METHODS)}."
        )
    return methods


def compute_clip_maps(
    subject: Subject,
    method: str,
    clips: Clips,
    targets: npt.NDArray[np.int64],
    *,
    layer: str | None = None,
) -> ClipMaps:
    """Explain one logit of each clip, frame by frame.

    Args:
        subject: A network of clips.
        method: Of :data:`CLIP_METHODS`.
        clips: What it sees.
        targets: int64 (N,), places among the K logits.
        layer: The layer to look at; the usual one where None.

    Raises:
        UsageError: Unknown method or layer, or a network without maps of frames.
        Diverged: A map holds NaN or infinity.
    """
    (chosen,) = find_clip_methods([method], subject)
    use = find_clip_layer(subject, layer)
    batch = subject.prepare(clips)
    goals = torch.from_numpy(targets.astype(np.int64)).to(subject.runtime.device)
    with hold_still(subject.module), allow_recurrent_gradients():
        coarse = _draw(subject, chosen, batch, goals, use).cpu()
    if not bool(torch.isfinite(coarse).all()):
        raise Diverged(
            f"{method} at '{use.name}' of {subject.label} gives NaN or infinity: its weights hold NaN, or "
            f"its precision ({subject.runtime.precision}) overflows; try float32."
        )
    steps = _count_steps(use)
    if steps is None:
        large = torch.nn.functional.interpolate(
            coarse[:, None], size=clips.shape[2:4], mode="bilinear", align_corners=False
        )
    else:
        volume = coarse.reshape(len(clips), 1, steps, -1, coarse.shape[-1])
        large = torch.nn.functional.interpolate(
            volume, size=clips.shape[1:4], mode="trilinear", align_corners=False
        )
    return ClipMaps(maps=large.reshape(*clips.shape[:4]).numpy(), method=method, layer=use.name)


def find_clip_layer(subject: Subject, layer: str | None) -> LayerUse:
    """Return the layer to look at.

    Raises:
        UsageError: There is no such layer, or none has a map of each frame.
    """
    # Behind the backbone there is one vector a frame; T of them would be taken for a grid of patches.
    uses = tuple(use for use in list_layers(subject.module, subject.make_example()) if use.is_backbone)
    if takes_frames(subject):
        return find_target_use(subject, uses, layer)
    usual = choose_last(subject.module, uses, [use for use in uses if _count_steps(use) is not None])
    if usual is None:
        raise UsageError(
            f"{subject.label}: no layer of {type(subject.module).__name__} puts out a map for each step of "
            "time, so there are none to draw. Which frames matter is still measured: --method none."
        )
    use = usual if layer is None else find_layer(uses, layer)
    if _count_steps(use) is None:
        raise UsageError(
            f"'{layer}' puts out {use.shape} for a clip, which is no map for each step of time; choose a "
            f"layer with one, as '{usual.name}'."
        )
    return use


def describe_steps(subject: Subject, use: LayerUse) -> str | None:
    """Return a warning where a layer has fewer steps of time than the clip has frames; else None."""
    steps, frames = _count_steps(use), subject.num_frames
    if steps is None or frames is None or steps >= frames:
        return None
    told = "all frames have the same map" if steps == 1 else "maps of neighbouring frames are interpolated"
    return (
        f"'{use.name}' has {steps} of {frames} steps in time: {told}, and shares of frames say little. "
        "An earlier layer (--layer) may have more; what is lost without each frame is measured in any case."
    )


def describe_empty(maps: ClipMaps) -> str | None:
    """Return a warning where maps hold nothing at all; else None."""
    if maps.maps.any():
        return None
    return (
        f"{maps.method} at '{maps.layer}' is zero everywhere: nothing there speaks for the answer, or what "
        "comes behind doesn't read it. Look at another layer too: --layer."
    )


def takes_frames(subject: Subject) -> bool:
    """Whether a network looks at each frame by itself before it puts them together."""
    return any(isinstance(part, TemporalHead) for part in subject.module.modules())


def _count_steps(use: LayerUse) -> int | None:
    """Return t of a layer with a map for each step of time, None of others."""
    return use.volume[0] if use.volume is not None and min(use.volume[1:]) > 1 else None


def collect_frame_activations(
    subject: Subject, clip: npt.NDArray[np.uint8], place: int, *, channels: int = 16
) -> ImageActivations | None:
    """Return the activation maps of one frame of a clip; None of a video network, whose layers join frames.

    Args:
        subject: A network of clips.
        clip: uint8 (T, S, S, 3).
        place: Which frame, from 0.
        channels: How many of each layer's channels are kept at most.
    """
    if not takes_frames(subject):
        return None
    uses = tuple(use for use in list_layers(subject.module, subject.make_example()) if use.is_backbone)
    kept: list[LayerMaps] = []

    def keep(use: LayerUse, output: Tensor) -> None:
        kept.append(rank_channels(use, use.to_maps(output)[place].float().clone(), channels))

    chosen = choose_layers(uses, subject.family)
    with (
        hold_still(subject.module),
        torch.no_grad(),
        watch_layers(subject.module, chosen, keep),
        subject.runtime.autocast(),
    ):
        logits = subject.module(subject.prepare(clip[None]))
    end = find_backbone_end(uses)
    return ImageActivations(
        image=clip[place],
        logits=logits[0].float().cpu().numpy(),
        layers=tuple(kept),
        backbone_end=None if end is None else end.name,
    )


def _draw(subject: Subject, method: Method, batch: Tensor, goals: Tensor, use: LayerUse) -> Tensor:
    if method.name == "eigencam":
        return compute_eigencam(read_layer(subject, batch, None, use)[0])
    activations, gradients = read_layer(subject, batch, goals, use)
    assert gradients is not None
    draw = compute_gradcam if method.name == "gradcam" else compute_gradcam_plus_plus
    return draw(activations, gradients)


def measure_frames(subject: Subject, clips: Clips, targets: npt.NDArray[np.int64]) -> Values:
    """Measure how much of a clip's score each frame carries.

    A frame is replaced by the one before it (the first by the second), which leaves a clip that could have
    been filmed, where a black frame would not. A frame of a clip that stands still carries nothing.

    Args:
        subject: A network of clips.
        clips: What it sees, T at least 2.
        targets: int64 (N,), places among the K logits.

    Returns:
        float32 (N, T): the logit of the target with all frames minus that without frame t.

    Raises:
        Diverged: A logit isn't finite.
    """
    rows, frames = np.arange(len(clips)), clips.shape[1]
    whole = subject.compute_logits(clips, batch_size=8)[rows, targets]
    found = np.empty((len(clips), frames), np.float32)
    for place in range(frames):
        changed = clips.copy()
        changed[:, place] = clips[:, place - 1 if place else min(1, frames - 1)]
        found[:, place] = whole - subject.compute_logits(changed, batch_size=8)[rows, targets]
    return found


def read_attention(subject: Subject, clips: Clips) -> Values | None:
    """Return how much the pooling over time attends to each frame, (N, T); None where it doesn't attend.

    Of ``attention`` its weights; of ``transformer`` those of the class token in the last layer, the mean over
    its heads, scaled to a sum of 1 over frames.
    """
    pool = next(
        (part for part in subject.module.modules() if isinstance(part, AttentionPool | TransformerPool)), None
    )
    if pool is None:
        return None
    with hold_still(subject.module), torch.no_grad():
        if isinstance(pool, AttentionPool):
            scores = _record_output(subject, pool.score, clips)
            weights = scores.squeeze(-1).softmax(dim=1)
        else:
            last = pool.layers.layers[-1]
            assert isinstance(last, nn.TransformerEncoderLayer)
            tokens = last.norm1(_record_input(subject, last, clips))
            _, attended = last.self_attn(tokens, tokens, tokens, need_weights=True)
            weights = attended[:, 0, 1:]
            weights = weights / weights.sum(dim=1, keepdim=True)
    found: Values = weights.float().cpu().numpy()
    return found


def _record_output(subject: Subject, part: nn.Module, clips: Clips) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_hook(lambda _part, _inputs, output: kept.append(output))
    return _run_recorded(subject, clips, kept, handle)


def _record_input(subject: Subject, part: nn.Module, clips: Clips) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda _part, inputs: kept.append(inputs[0]))
    return _run_recorded(subject, clips, kept, handle)


def _run_recorded(
    subject: Subject, clips: Clips, kept: list[Tensor], handle: torch.utils.hooks.RemovableHandle
) -> Tensor:
    try:
        with subject.runtime.autocast():
            subject.module(subject.prepare(clips))
    finally:
        handle.remove()
    return kept[0].float()
