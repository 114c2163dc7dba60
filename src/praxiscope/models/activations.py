"""What named layers put out in one forward pass, call by call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from praxiscope.errors import UsageError, did_you_mean


@contextlib.contextmanager
def record_activations(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of layers during the forward passes inside the context.

    A layer that is called several times (one ReLU behind two convolutions) gives one entry for each call:
    ``act1``, ``act1#2``. Hooks that keep one entry a layer show the last call under every name. What a later
    in-place layer would overwrite is copied first.

    Args:
        module: The network.
        names: Dotted names of its submodules.

    Yields:
        Outputs by name, detached copies, in the order of the calls; filled by the forward passes.

    Raises:
        UsageError: The network has no layer of that name, or a layer puts out something else than a tensor.
    """
    layers = dict(module.named_modules())
    for name in names:
        if name not in layers or not name:
            known = [each for each in layers if each]
            raise UsageError(f"The network has no layer '{name}'.{did_you_mean(name, known)}")
    found: dict[str, Tensor] = {}
    calls = dict.fromkeys(names, 0)

    def keep(name: str, output: object) -> None:
        if not isinstance(output, Tensor):
            raise UsageError(
                f"The layer '{name}' puts out a {type(output).__name__}; name one that puts out a tensor."
            )
        calls[name] += 1
        found[name if calls[name] == 1 else f"{name}#{calls[name]}"] = output.detach().clone()

    def hook_for(name: str) -> object:
        return layers[name].register_forward_hook(lambda _module, _inputs, output: keep(name, output))

    handles = [hook_for(name) for name in dict.fromkeys(names)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
