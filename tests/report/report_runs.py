"""Run folders with invented figures and drawn pictures, to build reports from."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from praxiscope.data.manifest import Finding, Manifest, build_table, write_manifest
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    PredictionsInfo,
    build_predictions,
    write_predictions,
)
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.runs.atomic import write_json
from praxiscope.runs.rundir import RunDir

ACTIONS = (
    "calling", "clapping", "cycling", "dancing", "drinking", "eating", "fighting", "hugging", "laughing",
    "listening_to_music", "running", "sitting", "sleeping", "texting", "using_laptop",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a synthetic run is made of."""

    names: tuple[str, ...] = ACTIONS
    per_class: int = 12
    splits: tuple[str, ...] = ("test", "val")
    """Splits that have been evaluated."""
    file_name: str = "{split}/{label}/{number:04d}.jpg"
    recipe_name: str = "har-resnet18"
    epochs: int = 12
    picture_size: tuple[int, int] = (96, 72)
    noise: bool = False
    """Pictures of noise: the largest files that a thumbnail can have."""
    skill: float = 3.0
    """Mean logit of the right class; noise has a standard deviation of 1.5."""
    twins: int = 3
    store_pictures: bool = True
    """False leaves the files out: names that not every system allows."""


def draw_picture(index: int, size: tuple[int, int], *, noise: bool = False) -> bytes:
    """Return the bytes of a JPEG: a simple figure on a ground, or noise."""
    rng = np.random.default_rng(index)
    width, height = size
    if noise:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    else:
        image = Image.new("RGB", size, tuple(int(value) for value in rng.integers(90, 220, 3)))
        pen = ImageDraw.Draw(image)
        x, y = width * rng.uniform(0.3, 0.7), height * 0.3
        pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill="#333333")
        hip = (x, y + height * 0.32)
        pen.line([(x, y), hip], fill="#333333", width=5)
        for reach in rng.uniform(-0.25, 0.25, 4):
            start = (x, y + 14) if reach > 0 else hip
            pen.line([start, (x + reach * width, start[1] + height * 0.25)], fill="#333333", width=4)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=92)
    return buffer.getvalue()


def write_samples(plan: Plan, root: Path) -> list[dict[str, Any]]:
    """Write the pictures of the evaluated splits and return the manifest's rows."""
    rows = []
    for split in plan.splits:
        for label_index, label in enumerate(plan.names):
            for number in range(plan.per_class):
                path = plan.file_name.format(split=split, label=label, number=number, index=label_index)
                content = draw_picture(len(rows), plan.picture_size, noise=plan.noise)
                if plan.store_pictures:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)
                digest = hashlib.sha256(content).hexdigest()
                rows.append(
                    {"sample_id": path, "path": path, "split": split, "action": label, "sha256": digest}
                )
    tests = [row for row in rows if row["split"] == "test"]
    for row in tests[:: max(1, len(tests) // plan.twins)][: plan.twins] if plan.twins else []:
        row["twin_of"], row["twin_kind"] = "train/" + row["sample_id"], "exact"
    return rows


def write_epochs(run: RunDir, epochs: int) -> None:
    """Append the rows of a run that overfits towards its end."""
    for epoch in range(1, epochs + 1):
        share = epoch / 12
        run.append_metrics(
            {
                "epoch": epoch,
                "step": 100 * epoch,
                "lr": 5e-4 * (1 + np.cos(np.pi * share)) / 2,
                "train/loss": 2.4 * np.exp(-2.2 * share) + 0.1,
                "train/top1": 0.95 - 0.75 * np.exp(-2.4 * share),
                "val/loss": 1.9 * np.exp(-3.5 * share) + 0.55 + 0.35 * max(0.0, share - 0.45),
                "val/top1": 0.79 - 0.5 * np.exp(-4 * share),
                "images_per_s": 61.0 + epoch % 3,
                "epoch_s": 176.0 + epoch % 4,
                "peak_memory_mib": 1412.0 + epoch,
            }
        )


def write_evaluation(run: RunDir, manifest: Manifest, plan: Plan, split: str) -> None:
    """Store predictions and figures of one split."""
    rows = [row for row in manifest.table.to_pylist() if row["split"] == split]
    rng = np.random.default_rng(7)
    names = manifest.heads["action"]
    targets = np.array([names.index(row["action"]) for row in rows])
    logits = rng.normal(0, 1.5, (len(rows), len(names))).astype(np.float32)
    logits[np.arange(len(rows)), targets] += plan.skill
    logits[np.arange(len(rows)), (targets + 1) % len(names)] += plan.skill / 3
    info = PredictionsInfo(
        heads=dict(manifest.heads),
        weights_sha256="5b" * 32,
        manifest_fingerprint=manifest.fingerprint,
        recipe_name=plan.recipe_name,
        created="2026-01-05T10:00:00+00:00",
    )
    predictions = build_predictions(
        info,
        sample_ids=[row["sample_id"] for row in rows],
        splits=split,
        outputs={"action": HeadOutputs(targets=targets, logits=logits)},
        clean=np.array([row["twin_of"] is None for row in rows]),
    )
    write_predictions(predictions, run.predictions(split))
    metrics = compute_metrics(predictions, seed=0, resamples=100)
    write_json(run.new_evaluation_dir(split) / "metrics.json", metrics)


def describe_run(plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """Return what training adds to ``run.json``."""
    findings = [
        {
            "code": "D1.exact-across",
            "severity": "warning",
            "count": plan.twins,
            "examples": ["test/calling/0000.jpg"],
            "message": f"{plan.twins} test samples are byte for byte in train too.",
        },
        {
            "code": "D2.unreadable",
            "severity": "note",
            "count": 1,
            "examples": ["train/broken.jpg"],
            "message": "1 file can't be decoded and is left out.",
        },
    ]
    return {
        "recipe_name": plan.recipe_name,
        "command": ["praxiscope", "train", plan.recipe_name, "--data", str(manifest.root)],
        "praxiscope_version": "0.1.0",
        "git_commit": "0f3c" * 10,
        "environment": {"python": "3.11.9", "torch": "2.11.0", "device": "cpu", "device_name": None},
        "data": {
            "root": str(manifest.root),
            "source": "folder",
            "num_train": 10710,
            "num_val": 1260,
            "num_test": plan.per_class * len(plan.names),
            "heads": {"action": list(plan.names)},
            "manifest_fingerprint": manifest.fingerprint,
            "findings": findings,
        },
        "model": {
            "name": "resnet18",
            "parameters": 11_184_207,
            "pretrained": "imagenet",
            "weights_sha256": "a1" * 32,
            "frozen": [],
        },
        "recipe_fingerprint": "9e" * 32,
        "time": {"train_s": 2130.4, "sessions": [{"seconds": 1200.0}, {"seconds": 930.4}]},
        "best": {"epoch": min(9, plan.epochs), "monitor": "val/top1", "value": 0.765},
        "quarantined": ["train/late.jpg"],
        "notes": ["Batch size 64 was reached as 2 x 32."],
    }


def make_run(folder: Path, plan: Plan | None = None) -> RunDir:
    """Write a whole run folder with its data beside it, and return it."""
    plan = plan or Plan()
    root = folder / "data"
    root.mkdir()
    rows = write_samples(plan, root)
    rows.append({"sample_id": "train/broken.jpg", "path": "train/broken.jpg", "split": "train",
                 "action": plan.names[0], "sha256": "00" * 32, "quarantine": "truncated"})  # fmt: skip
    manifest = Manifest(
        table=build_table(rows, ["action"]),
        root=root,
        heads={"action": tuple(sorted(plan.names))},
        source="folder",
        findings=(Finding.of("D2.unreadable", "note", "1 file can't be decoded.", ["train/broken.jpg"]),),
    )
    run = RunDir.create(folder / "runs", "synthetic")
    run.update_run_json(describe_run(plan, manifest))
    recipe = f"name: synthetic\nseed: 0\ntrain:\n  epochs: {plan.epochs}\n  lr: 0.0005\n"
    run.recipe.write_text(recipe, encoding="utf-8")
    write_manifest(manifest, run.manifest)
    write_epochs(run, plan.epochs)
    for split in plan.splits:
        write_evaluation(run, manifest, plan, split)
    return run
