"""Who is compared: runs, several seeds of one recipe, predictions files, tables of other tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from praxiscope.comparison.foreign import read_foreign
from praxiscope.comparison.tables import CountTable, SampleTable
from praxiscope.data.manifest import read_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.recipe.load import parse_yaml
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir

Kind = Literal["run", "seeds", "predictions", "table", "confusion"]

FOREIGN_SUFFIXES = frozenset({".csv", ".tsv", ".json"})
_NOT_RECIPE = frozenset({"seed", "name", "description", "loader", "track"})
"""Keys of a recipe that leave open which model it makes: two seeds of one recipe differ in these alone."""


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
        head: Which head; may be left out when there is only one.
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
    run = find_run(str(source), root=root)
    stored = run.predictions(split)
    if not stored.is_file():
        raise UsageError(
            f"{run.path} has no predictions of split {split!r}. Make them first: "
            f"praxiscope evaluate {run.path} --split {split}"
        )
    table = _from_predictions(read_predictions(stored), stored, split=split, head=head)
    recipe = parse_yaml(run.recipe.read_text(encoding="utf-8"), origin=f"'{run.recipe}'")
    return replace(
        table,
        source=run.path,
        run=run.path,
        seed=recipe.get("seed"),
        recipe_key=_fingerprint_asked(recipe),
    )


def _from_predictions(predictions: Predictions, path: Path, *, split: str, head: str | None) -> SampleTable:
    if len(set(predictions.table["split"].to_pylist())) > 1:
        predictions = predictions.for_split(split)
    if not len(predictions):
        raise DataError(f"{path} holds no samples to compare.")
    head = predictions.resolve_head(head)
    return SampleTable(
        source=path,
        split=predictions.split,
        head=head,
        names=predictions.names(head),
        names_complete=True,
        sample_ids=tuple(predictions.sample_ids),
        targets=predictions.targets(head),
        preds=predictions.preds(head),
        logits=predictions.logits(head),
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
