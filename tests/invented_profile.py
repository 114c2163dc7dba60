"""A profile with invented figures, in the form of ``profile.json``."""

from __future__ import annotations

from typing import Any

SPEEDS = {
    "eager-fp32": (1.0, 1.0),
    "channels-last": (0.86, 1.0),
    "compiled": (0.71, 0.8),
    "onnxruntime": (0.62, 0.7),
    "openvino": (0.5, 0.6),
    "openvino-bf16": (0.27, 0.6),
    "openvino-int8": (0.15, 0.45),
}
"""Runtime -> (latency, memory) as shares of eager's."""


def estimate(value: float, spread: float) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def measure(name: str, latency: float, memory: float, accuracy: dict[str, Any] | None) -> dict[str, Any]:
    """Return one runtime that ran."""
    return {
        "runtime": name,
        "status": "ok",
        "reason": None,
        "max_abs_diff": 0.0 if name == "eager-fp32" else 3.1e-6,
        "agreement": 0.97 if "int8" in name or "bf16" in name else 1.0,
        "latency_ms": {
            "p50": estimate(latency, 0.03 * latency),
            "p90": estimate(1.2 * latency, 0.06 * latency),
            "p99": estimate(1.6 * latency, 0.2 * latency),
            "repeats": 200,
        },
        "throughput": [
            {"batch_size": size, "images_per_s": estimate(gain * 1000 / latency, 12 / latency)}
            for size, gain in ((1, 1.0), (8, 1.4), (32, 1.6))
        ],
        "peak_memory_mib": memory,
        "accuracy": accuracy,
    }


def refuse(name: str, status: str, reason: str) -> dict[str, Any]:
    """Return one runtime that did not run."""
    return {"runtime": name, "status": status, "reason": reason, "max_abs_diff": None, "agreement": None,
            "latency_ms": None, "throughput": [], "peak_memory_mib": None, "accuracy": None}  # fmt: skip


def make_entry(name: str, latency: float, memory: float, accuracy: float | None) -> dict[str, Any]:
    """Return one model in all runtimes."""
    score = accuracy and {**estimate(accuracy, 0.017), "n": 1890, "split": "test"}
    runtimes = [
        measure(
            runtime,
            latency * faster,
            memory * smaller,
            score and {**estimate(accuracy - 0.006, 0.017), "n": 1890} if "int8" in runtime else score,
        )
        for runtime, (faster, smaller) in SPEEDS.items()
    ]
    runtimes.append(refuse("bf16", "refused", "largest difference 0.31 is above the tolerance 0.05"))
    runtimes.append(refuse("onnxruntime-int8-dynamic", "absent", "onnxruntime isn't installed"))
    return {
        "model": name,
        "run": None,
        "img_size": 224,
        "params": int(4.1e5 * latency),
        "gmacs": 0.0652 * latency,
        "gflops": 0.1304 * latency,
        "activations_m": 2.5,
        "accuracy": score,
        "runtimes": runtimes,
        "stages_ms": {
            stage: {"p50": estimate(share, 0.04), "p90": estimate(1.3 * share, 0.1)}
            for stage, share in (
                ("decode", 2.1),
                ("preprocess", 1.4),
                ("model", latency),
                ("postprocess", 0.05),
            )
        },
    }


def make_profile(
    names: tuple[str, ...] = ("efficientnet_lite0", "resnet18", "vit_base_patch16_224"),
) -> dict[str, Any]:
    """Return a profile of several models, the later ones slower and better."""
    entries = [
        make_entry(name, 14.0 * 2.9**index, 310.0 * 1.5**index, 0.74 + 0.06 * index - 0.012 * index**2)
        for index, name in enumerate(names)
    ]
    return {
        "schema": 1,
        "created": "2026-01-05T10:00:00+00:00",
        "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "threads": 2, "device": "cpu", "os": "Linux",
                    "torch": "2.11.0", "onnxruntime": "1.22.0", "openvino": "2026.1.0"},
        "entries": entries,
        "constraints": {"max_latency_ms": 50.0, "max_memory_mib": 500.0, "runtime": "any"},
        "choice": {
            "model": names[-1],
            "runtime": "openvino-int8",
            "reason": "the most accurate of those that need at most 50 ms and 500 MiB",
        },
        "recommendation": [
            f"{names[-1]} in openvino-int8 answers in 18 ms and is right on 80.6 % of the test samples.",
            f"{names[0]} in openvino-int8 is 8.4 times as fast and 5.9 points worse.",
        ],
    }  # fmt: skip
