"""Who is compared: runs, several seeds of one recipe, predictions files, tables of other tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from praxiscope.comparison.foreign import read_foreign
from praxiscope.comparison.tables import CountTable, SampleTable
from praxiscope.data.manifest import read_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.joint import name_joint, name_pair, stack_heads
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir

Kind = Literal["run", "seeds", "predictions", "table", "confusion"]

FOREIGN_SUFFIXES = frozenset({".csv", ".tsv", ".json"})
_NOT_RECIPE = frozenset({"seed", "name", "description", "loader", "track"})
"""Keys of a recipe that leave open which model it makes: two seeds of one recipe differ in these alone."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """One that is compared: a model, or one recipe under several seeds."""

    label: str
    kind: Kind
    members: tuple[SampleTable | CountTable, ...]
    """One a seed, at least one."""


def read_contestants(
    sources: Sequence[Path | str],
    *,
    split: str = "test",
    head: str | None = None,
    labels: Sequence[str] | None = None,
    separate: bool = False,
    root: Path = Path("runs"),
) -> list[Contestant]:
    """Read what is to be compared; runs that differ in their seed alone become one contestant.

    Args:
        sources: Run folders, ``RECIPE@latest``, predictions files, CSV or JSON files.
        split: Whose predictions are taken from runs and from files of several splits.
        head: Which head; of several, their joint answer by default.
        labels: What to call the contestants, one each.
        separate: Keep runs of one recipe apart.
        root: Folder of all runs, for names.

    Raises:
        UsageError: No such source or head, one given twice, fewer than two contestants, labels that are not
            one each or not different; a run without predictions of the split.
        DataError: A file that can't be used.
    """
    tables = [read_source(source, split=split, head=head, root=root) for source in sources]
    _refuse_repeats(tables)
    unpaired = any(isinstance(table, CountTable) for table in tables)
    groups = [[table] for table in tables] if separate or unpaired else _group_seeds(tables)
    if len(groups) < 2:
        raise UsageError(_tell_too_few(tables))
    names = list(labels) if labels else _name_groups(groups)
    if len(names) != len(groups):
        raise UsageError(
            f"{len(names)} labels were given for {len(groups)} contestants "
            f"({', '.join(_name_groups(groups))}); give one each."
        )
    if len(set(names)) != len(names):
        raise UsageError(f"The labels must differ; given: {', '.join(names)}.")
    return [
        Contestant(label=name, kind=_find_kind(members), members=tuple(members))
        for name, members in zip(names, groups, strict=True)
    ]


def explain_apart(contestants: Sequence[Contestant]) -> list[str]:
    """Say of runs of one recipe name why they aren't taken for seeds of one recipe.

    Args:
        contestants: From `read_contestants`, not kept separate.
    """
    named: dict[str, list[tuple[str, Path]]] = {}
    for each in contestants:
        table = each.members[0]
        if isinstance(table, SampleTable) and table.run is not None and table.recipe_name is not None:
            named.setdefault(table.recipe_name, []).append((each.label, table.run))
    notes = []
    for (first, run), *others in named.values():
        for label, other in others:
            told = _tell_changes(*(_flatten_asked(RunDir.open(path)) for path in (run, other)))
            notes.append(
                f"{first} and {label} bear one recipe name, but aren't seeds of one recipe: "
                + (f"their recipes differ in {told}." if told else "they have other data.")
            )
    return notes


def read_source(source: Path | str, *, split: str, head: str | None, root: Path) -> SampleTable | CountTable:
    """Read one source; see `read_contestants`."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return _from_predictions(read_predictions(path), path, split=split, head=head)
    if path.is_file() and path.suffix.lower() in FOREIGN_SUFFIXES:
        return read_foreign(path)
    if path.is_file():
        raise UsageError(
            f"{path}: what is compared are run folders, predictions (.parquet), or tables of other tools "
            "(.csv, .tsv, .json)."
        )
    if not path.exists() and path.suffix.lower() in {".parquet", *FOREIGN_SUFFIXES}:
        raise UsageError(f"{path}: there is no such file.")
    run = find_run(str(source), root=root)
    stored = run.predictions(split)
    if not stored.is_file():
        raise UsageError(
            f"{run.path} has no predictions of split {split!r}. Make them first: "
            f"praxiscope evaluate {run.path} --split {split}"
        )
    table = _from_predictions(read_predictions(stored), stored, split=split, head=head)
    # Loaded, not as it was saved: a key that came later stands at its default in a run that lacks it.
    recipe = load_recipe(run.recipe).model_dump(mode="json")
    return replace(
        table,
        source=run.path,
        run=run.path,
        seed=recipe["seed"],
        # What `praxiscope fuse` made has its first member's recipe, and is another model than that.
        recipe_key=_fingerprint_asked({**recipe, "fusion": run.read_run_json().get("fusion")}),
    )


def _from_predictions(predictions: Predictions, path: Path, *, split: str, head: str | None) -> SampleTable:
    if len(set(predictions.table["split"].to_pylist())) > 1:
        predictions = predictions.for_split(split)
    if not len(predictions):
        raise DataError(f"{path} holds no samples to compare.")
    if len(predictions.heads) > 1 and head in {None, name_joint(list(predictions.heads))}:
        return _join_table(predictions, path)
    head = predictions.resolve_head(head)
    return replace(
        _start_table(predictions, path, head),
        names=predictions.names(head),
        names_complete=True,
        targets=predictions.targets(head),
        preds=predictions.preds(head),
        logits=predictions.logits(head),
    )


def _join_table(predictions: Predictions, path: Path) -> SampleTable:
    """Return the joint answers of several heads; labels are the combinations that occur."""
    targets, preds = stack_heads(predictions)
    names = list(predictions.heads.values())
    labels, places = np.unique(np.concatenate([targets, preds]), axis=0, return_inverse=True)
    told = tuple(
        name_pair([own[index] for own, index in zip(names, label, strict=True)]) for label in labels.tolist()
    )
    return replace(
        _start_table(predictions, path, name_joint(list(predictions.heads))),
        names=told,
        targets=places.reshape(-1)[: len(targets)],
        preds=places.reshape(-1)[len(targets) :],
        head_hits=dict(zip(predictions.heads, (targets == preds).T, strict=True)),
    )


def _start_table(predictions: Predictions, path: Path, head: str) -> SampleTable:
    """Return a table's facts, still without answers."""
    return SampleTable(
        source=path,
        split=predictions.split,
        head=head,
        names=(),
        names_complete=False,
        sample_ids=tuple(predictions.sample_ids),
        targets=np.zeros(0, dtype=np.int64),
        preds=np.zeros(0, dtype=np.int64),
        groups=tuple(predictions.groups),
        clean=predictions.clean,
        recipe_name=predictions.info.recipe_name,
        weights_sha256=predictions.info.weights_sha256,
        manifest_fingerprint=predictions.info.manifest_fingerprint,
    )


def _fingerprint_asked(recipe: Mapping[str, Any]) -> str:
    """Hash what two seeds of one recipe share: all but the seed and what leaves the model as it is."""
    asked = {key: value for key, value in recipe.items() if key not in _NOT_RECIPE}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def _flatten_asked(run: RunDir) -> dict[str, Any]:
    """Return what `_fingerprint_asked` looks at, as dotted keys."""
    flat: dict[str, Any] = {}
    waiting: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), load_recipe(run.recipe).model_dump(mode="json"))
    ]
    while waiting:
        place, section = waiting.pop()
        for key, value in section.items():
            if not place and key in _NOT_RECIPE:
                continue
            if isinstance(value, Mapping) and value:
                waiting.append(((*place, key), dict(value)))
            else:
                flat[".".join((*place, key))] = value
    return flat


def _tell_changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the first keys whose values differ, with both values."""
    keys = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
    told = [f"{key} ({first.get(key)} / {second.get(key)})" for key in keys[:_SHOWN]]
    return ", ".join(told) + (f" and {len(keys) - _SHOWN} more keys" if len(keys) > _SHOWN else "")


def _fingerprint_data(run: Path) -> str:
    """Hash what two seeds were trained and tested on.

    Train and validation count as one: where validation is cut from train, each seed cuts its own.
    """
    table = read_manifest(RunDir.open(run).manifest).usable(None)
    tested = pc.equal(table["split"], "test").to_pylist()
    rows = sorted(zip(table["sample_id"].to_pylist(), tested, table["sha256"].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode("utf-8")).hexdigest()


def _refuse_repeats(tables: Sequence[SampleTable | CountTable]) -> None:
    seen: set[Path] = set()
    for table in tables:
        place = table.source.resolve()
        if place in seen:
            raise UsageError(f"{table.source} is given twice; compare it with something else.")
        seen.add(place)


def _group_seeds(tables: Sequence[SampleTable | CountTable]) -> list[list[SampleTable | CountTable]]:
    """Put runs of one recipe on the same data together; everything else stays alone."""
    asked = [table.recipe_key if isinstance(table, SampleTable) else None for table in tables]
    groups: dict[object, list[SampleTable | CountTable]] = {}
    for index, (table, key) in enumerate(zip(tables, asked, strict=True)):
        if key is None or asked.count(key) == 1 or table.run is None:
            groups[index] = [table]
        else:
            groups.setdefault((key, _fingerprint_data(table.run)), []).append(table)
    return list(groups.values())


def _tell_too_few(tables: Sequence[SampleTable | CountTable]) -> str:
    if len(tables) < 2:
        return "There is nothing to compare with: give at least two runs, predictions files or tables."
    return (
        f"The {len(tables)} runs differ in their seed alone, so they are one contestant. Add a run of "
        "another recipe, or compare the seeds with one another: --separate."
    )


def _find_kind(members: Sequence[SampleTable | CountTable]) -> Kind:
    first = members[0]
    if len(members) > 1:
        return "seeds"
    if isinstance(first, CountTable):
        return "confusion"
    if first.run is not None:
        return "run"
    return "predictions" if first.source.suffix.lower() == ".parquet" else "table"


def _name_groups(groups: Sequence[Sequence[SampleTable | CountTable]]) -> list[str]:
    """Name each by its recipe or file, with as much of the path as tells equal names apart."""
    plain = [group[0].short_name for group in groups]
    longer = [
        f"{name} ({group[0].source.name if group[0].run else group[0].source.parent.name})"
        if plain.count(name) > 1
        else name
        for name, group in zip(plain, groups, strict=True)
    ]
    return [f"{name} #{index + 1}" if longer.count(name) > 1 else name for index, name in enumerate(longer)]
