"""The sections of the page that aren't about scores: learning, data, cost, provenance."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.data.manifest import Manifest
from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.artefacts import Artefacts, Evaluation
from praxiscope.reporting.charts import LineChart, build_curves
from praxiscope.reporting.learning import describe_run
from praxiscope.reporting.wording import (
    NARROW,
    Block,
    format_count,
    format_duration,
    format_interval,
    format_parameters,
    format_percent,
    format_size,
)

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
class ClassList:
    """Classes with how sure their recall is."""

    title: str
    shared: str
    """Samples and interval where all classes have the same; else empty."""
    classes: tuple[tuple[str, str], ...]
    """(name, samples and interval where they differ)."""


@dataclass(frozen=True, kw_only=True)
class ExtremesSection:
    """Classes at 100 % and at 0 %, and what their number is worth."""

    sentences: tuple[str, ...]
    lists: tuple[ClassList, ...]
    """Those that hold any class."""
    rule: str


@dataclass(frozen=True, kw_only=True)
class GroupsSection:
    """Groups of classes: a table of each grouping, and their comparisons."""

    source: str
    method: str
    """Of the intervals."""
    columns: tuple[Mapping[str, Any], ...]
    apart: tuple[str, ...]
    """A sentence for each two groups that can be told apart."""
    alike: tuple[str, ...]
    """A sentence for each two that can't."""
    notes: tuple[str, ...]
    rule: str


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
    recipe, problem = read_stored_recipe(artefacts)
    findings = describe_run(rows, recipe, artefacts.run)
    monitor = best.get("monitor") or findings.monitor
    value = best.get("value")
    shown = "" if value is None else (f"{value:.4f}" if monitor.endswith("loss") else format_percent(value))
    return LearningSection(
        panels=build_curves(
            rows, best_epoch=best.get("epoch"), extensions=artefacts.run.get("extensions") or ()
        ),
        findings=(*findings.sentences, *problem),
        best_epoch=best.get("epoch"),
        best_rule=f"best {monitor}, {shown}" if shown else "",
    )


def build_extremes(metrics: Mapping[str, Any] | None) -> ExtremesSection | None:
    """Return the classes at the extremes, or None for an evaluation from before they were counted."""
    found = (metrics or {}).get("extremes")
    if metrics is None or found is None:
        return None
    differences = found["differences"] or {}
    lists = (
        ("At 100 %", found["perfect"]["classes"]),
        ("At 0 %", found["zero"]["classes"]),
        ("Above the overall accuracy beyond chance", differences.get("better", ())),
        ("Below the overall accuracy beyond chance", differences.get("worse", ())),
    )
    return ExtremesSection(
        sentences=tuple(found["sentences"]),
        lists=tuple(_list_classes(title, classes) for title, classes in lists if classes),
        rule=metrics["rules"].get("extremes", ""),
    )


def _list_classes(title: str, classes: Sequence[Mapping[str, Any]]) -> ClassList:
    details = [_describe_class(one) for one in classes]
    if len(classes) > 1 and len(set(details)) == 1:
        names = tuple((one["name"], "") for one in classes)
        return ClassList(title=title, shared=f"each: {details[0]}", classes=names)
    names = tuple((one["name"], detail) for one, detail in zip(classes, details, strict=True))
    return ClassList(title=title, shared="", classes=names)


def _describe_class(one: Mapping[str, Any]) -> str:
    interval = format_interval({"low": one["recall_low"], "high": one["recall_high"]})
    p_value = f", p {one['p_holm']:.2g}" if "p_holm" in one else ""
    samples = f"{format_count(one['support'])} sample{'s' if one['support'] != 1 else ''}"
    return f"{samples}, recall interval {interval}{p_value}"


def build_groups(metrics: Mapping[str, Any] | None) -> GroupsSection | None:
    """Return the groups of an evaluation, or None where it compared none."""
    found = (metrics or {}).get("groups")
    if metrics is None or found is None:
        return None
    told = sorted(found["differences"], key=lambda one: one["p_value"])
    return GroupsSection(
        source=found["source"],
        method=found["interval_method"],
        columns=tuple(found["columns"]),
        apart=tuple(one["sentence"] for one in told if one["told_apart"]),
        alike=tuple(one["sentence"] for one in told if not one["told_apart"]),
        notes=tuple(found["sentences"]),
        rule=metrics["rules"].get("groups", ""),
    )


def read_stored_recipe(artefacts: Artefacts) -> tuple[Recipe | None, tuple[str, ...]]:
    """Return the run's recipe, or why what follows from it isn't known."""
    unknown = "whether training images were mixed and what training loss is, isn't known."
    if artefacts.recipe is None:
        return None, (f"recipe.yaml is not in this run folder: {unknown}",)
    try:
        return load_recipe(artefacts.folder / "recipe.yaml"), ()
    except UsageError:
        return None, (f"recipe.yaml can't be read as a recipe: {unknown}",)


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
    parameters, gmacs = model.get("parameters"), model.get("gmacs")
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
            format_parameters(parameters) if parameters is not None else "not stored",
            str(model.get("name") or ""),
        ),
        (
            "Multiply-accumulates",
            f"{gmacs:.3g}{NARROW}GMACs" if gmacs is not None else NOT_MEASURED,
            f"of one image, which is {2 * gmacs:.3g} GFLOPs" if gmacs is not None else "",
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
        reasons = dict(artefacts.manifest.rejected())
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
