"""The sections of the page that aren't about scores: learning, data, cost, provenance."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.data.manifest import Manifest
from praxiscope.reporting.artefacts import Artefacts, Evaluation
from praxiscope.reporting.charts import LineChart, build_curves
from praxiscope.reporting.wording import (
    NARROW,
    Block,
    format_count,
    format_duration,
    format_percent,
    format_size,
)
from praxiscope.stats.learning import describe_learning

MAX_LISTED = 200
NOT_MEASURED = "not measured"

Pair = tuple[str, str, str]
"""Label, value, note."""


@dataclass(frozen=True, kw_only=True)
class LearningSection:
    """Curves and what they say."""

    panels: tuple[LineChart, ...]
    findings: tuple[str, ...]
    best_epoch: int | None
    best_rule: str


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Counts and findings of the data check."""

    counts: tuple[Pair, ...]
    checked: bool
    findings: tuple[Mapping[str, Any], ...]
    quarantined: tuple[str, ...]
    quarantined_total: int
    twins: tuple[Mapping[str, str], ...]
    twins_total: int


@dataclass(frozen=True, kw_only=True)
class ProvenanceSection:
    """What is needed to check and to repeat the run."""

    command: str | None
    recipe: Block | None
    fingerprints: tuple[tuple[str, str | None, str], ...]
    environment: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def build_learning(artefacts: Artefacts) -> LearningSection:
    """Return the curves and findings of a run; without epochs, no panels."""
    best = artefacts.run.get("best") or {}
    rows = artefacts.rows
    if not rows:
        return LearningSection(panels=(), findings=(), best_epoch=None, best_rule="")
    monitor = best.get("monitor") or "val/top1"
    value = best.get("value")
    shown = "" if value is None else (f"{value:.4f}" if monitor.endswith("loss") else format_percent(value))
    return LearningSection(
        panels=build_curves(rows, best_epoch=best.get("epoch")),
        findings=describe_learning(rows, monitor=monitor).sentences,
        best_epoch=best.get("epoch"),
        best_rule=f"best {monitor}, {shown}" if shown else "",
    )


def build_data(artefacts: Artefacts) -> DataSection | None:
    """Return the data section, or None where ``run.json`` says nothing about the data yet."""
    data = artefacts.run.get("data")
    if data is None:
        return None
    quarantined, twins = _list_quarantined(artefacts), _list_twins(artefacts.manifest)
    counts = [
        (label, format_count(data.get(key)), note)
        for label, key, note in (
            ("Training samples", "num_train", ""),
            ("Validation samples", "num_val", ""),
            ("Test samples", "num_test", ""),
        )
    ]
    classes = sum(len(names) for names in data["heads"].values())
    counts.append(("Classes", format_count(classes), f"source: {data['source']}"))
    order = {"error": 0, "warning": 1, "note": 2}
    findings = sorted(data.get("findings") or (), key=lambda one: order.get(one["severity"], 3))
    return DataSection(
        counts=tuple(counts),
        checked="findings" in data,
        findings=tuple(findings),
        quarantined=quarantined[:MAX_LISTED],
        quarantined_total=len(quarantined),
        twins=twins[:MAX_LISTED],
        twins_total=len(twins),
    )


def build_cost(artefacts: Artefacts) -> tuple[Pair, ...]:
    """Return what the run has cost so far; what wasn't measured says so."""
    run, rows = artefacts.run, artefacts.rows
    time, model, environment = (run.get(key) or {} for key in ("time", "model", "environment"))
    sessions = len(time.get("sessions") or ())
    speeds, epochs, memory = (
        _read_numbers(rows, key) for key in ("images_per_s", "epoch_s", "peak_memory_mib")
    )
    parameters = model.get("parameters")
    device = environment.get("device_name") or environment.get("device") or environment.get("cpu") or ""
    return (
        (
            "Training time",
            format_duration(time["train_s"]) if time.get("train_s") is not None else NOT_MEASURED,
            f"in {sessions} sessions" if sessions > 1 else "",
        ),
        (
            "Epochs",
            format_count(len(rows)),
            f"median {format_duration(statistics.median(epochs))} each" if epochs else "",
        ),
        (
            "Throughput",
            f"{statistics.median(speeds):.0f}{NARROW}images/s" if speeds else NOT_MEASURED,
            f"training, median over epochs; {device}" if speeds and device else "",
        ),
        (
            "Peak memory",
            format_size(max(memory)) if memory else NOT_MEASURED,
            "largest of all epochs" if memory else "",
        ),
        (
            "Parameters",
            _format_parameters(parameters) if parameters is not None else "not stored",
            str(model.get("name") or ""),
        ),
    )


def build_provenance(artefacts: Artefacts, headline: Evaluation | None) -> ProvenanceSection:
    """Return fingerprints, environment, command and recipe."""
    run = artefacts.run
    command = run.get("command")
    environment = run.get("environment") or {}
    return ProvenanceSection(
        command=shlex.join(map(str, command)) if command else None,
        recipe=Block(artefacts.recipe) if artefacts.recipe is not None else None,
        fingerprints=_list_fingerprints(run, headline),
        environment=tuple(
            (key.replace("_", " "), "none" if value is None else str(value))
            for key, value in environment.items()
        ),
        notes=tuple(map(str, run.get("notes") or ())),
    )


def _list_fingerprints(
    run: Mapping[str, Any], headline: Evaluation | None
) -> tuple[tuple[str, str | None, str], ...]:
    data, model = run.get("data") or {}, run.get("model") or {}
    version = run.get("praxiscope_version")
    metrics = headline.metrics if headline else {}
    predictions = headline.predictions if headline else None
    return (
        (
            "Data and split",
            data.get("manifest_fingerprint"),
            "every usable sample's content, labels and split",
        ),
        ("Recipe", run.get("recipe_fingerprint"), ""),
        ("Code", run.get("git_commit"), f"Praxiscope {version}" if version else ""),
        ("Starting weights", model.get("weights_sha256"), str(model.get("pretrained") or "")),
        ("Evaluated weights", metrics.get("weights_sha256"), headline.folder if headline else ""),
        ("Predictions", predictions.fingerprint if predictions else None, ""),
    )


def _list_quarantined(artefacts: Artefacts) -> tuple[str, ...]:
    """Return what the data check left out, and what training found unreadable later (``run.json``)."""
    reasons: dict[str, str] = {}
    if artefacts.manifest is not None:
        table = artefacts.manifest.table
        pairs = zip(table["sample_id"].to_pylist(), table["quarantine"].to_pylist(), strict=True)
        reasons = {sample_id: reason for sample_id, reason in pairs if reason is not None}
    for sample_id in artefacts.run.get("quarantined") or ():
        reasons.setdefault(str(sample_id), "failed while training read it")
    return tuple(f"{sample_id}: {reason}" for sample_id, reason in reasons.items())


def _list_twins(manifest: Manifest | None) -> tuple[Mapping[str, str], ...]:
    if manifest is None:
        return ()
    rows = manifest.table.select(["sample_id", "split", "twin_of", "twin_kind"]).to_pylist()
    return tuple(row for row in rows if row["twin_of"] is not None)


def _read_numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key) is not None]


def _format_parameters(count: int) -> str:
    return f"{count / 1e6:.2f}{NARROW}M" if count >= 100_000 else format_count(count)
