"""Where and how a model computes: device, precision, memory format, memory allocator.

``auto`` precision is measured, not looked up: processors that accept bfloat16 may emulate it at a tenth of
the speed of float32.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.models.catalog import Family

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# A gain below this is not worth bfloat16's 8 bits of mantissa.
WORTHWHILE_GAIN = 1.2


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a model computes.

    Attributes:
        device: where.
        precision: of the forward pass; weights, optimiser and loss stay in float32.
        reason: why this precision, for the log.
        channels_last: memory format of images and convolution weights.
    """

    device: torch.device
    precision: Precision
    reason: str
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which the forward pass computes in :attr:`precision`."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device in the memory format."""
        return module.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload, no-any-return]

    def describe(self) -> dict[str, str | int]:
        """Return what a reader of the run needs to know."""
        return {
            "device": str(self.device),
            "device_name": describe_device(self.device),
            "precision": self.precision,
            "precision_reason": self.reason,
            "memory_format": "channels_last" if self.channels_last else "contiguous",
            "threads": torch.get_num_threads(),
        }


class Normalizer:
    """Turns uint8 batches into normalised float32 ones.

    Args:
        mean: RGB mean in units of [0, 1].
        std: RGB standard deviation in the same units.
        runtime: gives device and memory format.
    """

    def __init__(
        self, mean: tuple[float, float, float], std: tuple[float, float, float], runtime: Runtime
    ) -> None:
        shape = (1, 3, 1, 1)
        self._runtime = runtime
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=runtime.device).view(shape)
        self._shift = torch.tensor(
            [-m / s for m, s in zip(mean, std, strict=True)], device=runtime.device
        ).view(shape)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Return float32 (..., C, H, W) on the device; ``(x / 255 - mean) / std``."""
        images = images_BCHW.to(self._runtime.device, non_blocking=True)
        before = images.shape[:-3]
        # Memory formats are of four axes: a clip's frames stand in one batch meanwhile.
        images = images.flatten(0, -4).to(torch.float32, memory_format=self._runtime.memory_format)
        images = images.mul_(self._scale).add_(self._shift)
        return images if len(before) == 1 else images.view(*before, *images.shape[1:])


def choose_device(asked: str | None) -> torch.device:
    """Return the device that was asked for, or the best there is.

    Args:
        asked: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, a GPU's number, or None to choose.

    Raises:
        UsageError: not a device.
        EnvironmentProblem: a device that this machine or this torch lacks.
    """
    if asked is None or asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    text = f"cuda:{asked}" if asked.isdigit() else asked
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda", "mps"}:
        raise UsageError(f"--device '{asked}' is not a device; use auto, cpu, cuda, cuda:N, N or mps.")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[device.type]:
        raise EnvironmentProblem(
            f"--device '{asked}': torch {torch.__version__} sees none here; use --device cpu."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentProblem(
            f"--device '{asked}': there are {torch.cuda.device_count()} GPUs, counted from 0."
        )
    return device


def choose_runtime(
    device: torch.device,
    *,
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    channels_last: bool | Literal["auto"],
    family: Family,
) -> Runtime:
    """Settle precision and memory format for a device and a kind of network.

    A precision that the device has not, or only emulates, is not used: the reason says so.
    """
    chosen, reason = _choose_precision(device, precision, family)
    wanted = family == "cnn" and device.type != "mps" if channels_last == "auto" else channels_last
    return Runtime(device=device, precision=chosen, reason=reason, channels_last=wanted)


def describe_device(device: torch.device) -> str:
    """Return the device's product name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def measure_bf16_gain(family: Family, *, repeats: int = 5) -> float:
    """Measure how many times faster this CPU trains a small block in bfloat16 than in float32.

    Args:
        family: ``cnn`` measures a 3x3 convolution in channels-last, ``vit`` a pair of linear layers.
        repeats: timed runs of each; the medians are compared. About 0.3 s in all.
    """
    with torch.random.fork_rng(devices=[]):
        module, values = _build_block(family)

        def step(*, enabled: bool) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                module(values).float().mean().backward()

        return _time(lambda: step(enabled=False), repeats) / _time(lambda: step(enabled=True), repeats)


def _build_block(family: Family) -> tuple[nn.Module, Tensor]:
    """Return a small part of such a network, and a batch for it."""
    if family == "cnn":
        block = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
        return (
            block.to(memory_format=torch.channels_last),
            torch.rand(4, 64, 28, 28).contiguous(memory_format=torch.channels_last),
        )
    return nn.Sequential(nn.Linear(192, 768), nn.GELU(), nn.Linear(768, 192)), torch.rand(4, 196, 192)


def tune_allocator() -> str:
    """Let glibc keep large blocks instead of mapping them anew at each step; once in a process.

    Each mapping costs page faults. Does nothing where the C library is another.

    Returns:
        What was done, for the log.
    """
    if platform.libc_ver()[0] != "glibc":
        return "system default"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return "system default"
    m_trim_threshold, m_mmap_max = -1, -4  # names and numbers of malloc.h
    done = mallopt(m_mmap_max, 0) == 1 and mallopt(m_trim_threshold, 2**31 - 1) == 1
    return "glibc, large blocks kept" if done else "system default"


def read_peak_memory_mib(device: torch.device) -> float | None:
    """Return the peak memory of this process in MiB: the GPU's where there is one, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def _choose_precision(device: torch.device, asked: str, family: Family) -> tuple[Precision, str]:
    if asked == "fp32":
        return "fp32", "asked for"
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        if asked == "fp16":
            return "fp16", "asked for"
        if native:
            return "bf16", "asked for" if asked == "bf16" else "this GPU computes bfloat16 natively"
        return "fp16", f"this GPU has no native bfloat16{'' if asked == 'auto' else ', which was asked for'}"
    if device.type == "mps":
        return "fp32", "the only precision offered on mps"
    if asked == "bf16":
        return "bf16", "asked for"
    gain = measure_bf16_gain(family)
    asked_words = "fp16 was asked for, which CPUs don't train in; " if asked == "fp16" else ""
    measured = f"{asked_words}bfloat16 measured {gain:.2g} x the speed of float32 on this CPU"
    return ("bf16" if gain >= WORTHWHILE_GAIN else "fp32"), measured


def _time(work: Callable[[], None], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds)
