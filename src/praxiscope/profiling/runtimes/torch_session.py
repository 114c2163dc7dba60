"""A torch module as a session: numpy in, numpy out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from praxiscope.profiling.material import Images, Logits, Material

if TYPE_CHECKING:
    from torch import nn


class TorchSession:
    """Calls a module on the CPU, in evaluation mode, without gradients.

    Args:
        module: takes float32 (B, 3, S, S), or clips (B, T, 3, S, S); gives (B, K).
        channels_last: memory format of images and convolution weights; bringing an image into it counts.
        bf16: compute under bfloat16 autocast.
    """

    def __init__(self, module: nn.Module, *, channels_last: bool = False, bf16: bool = False) -> None:
        import torch

        self._torch = torch
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._module = module.eval().to(memory_format=self._format)
        self._bf16 = bf16

    def __call__(self, images: Images, /) -> Logits:
        """Return float32 logits (B, K)."""
        torch = self._torch
        context = torch.autocast("cpu", dtype=torch.bfloat16) if self._bf16 else contextlib.nullcontext()
        with torch.inference_mode(), context:
            tensor = torch.from_numpy(images)
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=self._format)
            else:  # memory formats are of four axes: a clip's frames stand in one batch meanwhile
                tensor = (
                    tensor.flatten(0, 1).contiguous(memory_format=self._format).unflatten(0, images.shape[:2])
                )
            logits: Logits = self._module(tensor).float().numpy()
        return logits


def load_module(material: Material) -> nn.Module:
    """Build the network with its weights, in evaluation mode, and give torch its threads."""
    import torch

    from praxiscope.models.build import rebuild_model
    from praxiscope.recipe.schema import ModelSection

    torch.set_num_threads(material.threads)
    built = rebuild_model(
        ModelSection(**material.section), num_classes=material.num_classes, weights=material.weights
    )
    return built.module.eval()
