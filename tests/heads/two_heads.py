"""Tables of invented answers of two heads."""

from __future__ import annotations

import numpy as np

from praxiscope.evaluation.predictions import HeadOutputs, PredictionsInfo, build_predictions


def make_predictions(sizes=(4, 3), *, size=60, seed=0, groups=None, names=None, skill=2.0, split="test"):
    """Build predictions of the heads verb and noun; `skill` is the mean logit of the right label."""
    rng = np.random.default_rng(seed)
    names = names or [
        tuple(f"{head}{index}" for index in range(count)) for head, count in zip("vn", sizes, strict=True)
    ]
    outputs = {}
    for head, own in zip(("verb", "noun"), names, strict=True):
        targets = rng.integers(len(own), size=size)
        logits = rng.normal(size=(size, len(own))) + skill * np.eye(len(own))[targets]
        outputs[head] = HeadOutputs(targets=targets, logits=logits.astype(np.float32))
    info = PredictionsInfo(
        heads=dict(zip(("verb", "noun"), map(tuple, names), strict=True)),
        weights_sha256="w" * 64,
        manifest_fingerprint="m" * 64,
        recipe_name="invented",
        created="2026-01-02T03:04:05Z",
    )
    return build_predictions(
        info,
        sample_ids=[f"s{index:05}" for index in range(size)],
        splits=split,
        outputs=outputs,
        groups=groups,
    )


def answer_again(predictions, *, seed, skill):
    """Build another model's answers to the same samples."""
    rng = np.random.default_rng(seed)
    outputs = {}
    for head, names in predictions.heads.items():
        targets = predictions.targets(head)
        logits = rng.normal(size=(len(targets), len(names))) + skill * np.eye(len(names))[targets]
        outputs[head] = HeadOutputs(targets=targets, logits=logits)
    return build_predictions(
        predictions.info, sample_ids=predictions.sample_ids, splits=predictions.split, outputs=outputs,
        groups=predictions.groups,
    )  # fmt: skip
