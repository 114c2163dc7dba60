"""Compare: answers of several models to the same samples become a verdict, tables and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.comparison.align import align_contestants
from praxiscope.comparison.build import compare_aligned
from praxiscope.comparison.contestants import explain_apart, read_contestants
from praxiscope.comparison.files import (
    format_confusions_csv,
    format_disagreements_csv,
    format_headline_csv,
    format_per_class_csv,
)
from praxiscope.comparison.headline import Plan
from praxiscope.comparison.phases import add_phases, check_target
from praxiscope.comparison.rare import merge_rare_labels
from praxiscope.comparison.result import ComparisonResult
from praxiscope.comparison.tables import CountTable
from praxiscope.comparison.unpaired import compare_counts
from praxiscope.errors import DataError, UsageError
from praxiscope.reporting.comparison.build import build_comparison_page
from praxiscope.reporting.comparison.figures import write_comparison_figures
from praxiscope.runs import atomic

RESAMPLES = 10_000
PROFILE_SCHEMA = 1


def compare(  # noqa: PLR0913 - one parameter a flag
    sources: Sequence[Path | str],
    *,
    output: Path | str | None = None,
    head: str | None = None,
    split: str = "test",
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    costs: Path | str | None = None,
    target: float | None = None,
    common: bool = False,
    separate: bool = False,
    runs: Path | str = "runs",
    data: Path | str | None = None,
    page: bool = True,
) -> ComparisonResult:
    """Compare models on the same samples; write ``comparison.json``, tables, pictures and one page.

    Args:
        sources: Run folders, ``RECIPE@latest``, predictions files (Parquet), CSV files of other tools,
            confusion matrices. Runs that differ in their seed alone are one contestant.
        output: Folder for the files; ``runs/compare/<UTC time>`` by default.
        head: Which head; of several, their joint answer by default.
        split: Whose predictions are compared.
        labels: What to call the contestants, one each.
        resamples: Of the bootstrap.
        seed: Of the bootstrap; the same seed gives the same intervals.
        costs: A ``profile.json`` whose costs the page shows beside the accuracies.
        target: Top-1 accuracy to reach, in (0, 1]; each contestant is told whether it does.
        common: Compare on the samples that all have, instead of refusing where they differ.
        separate: Keep runs of one recipe apart.
        runs: Folder of all runs.
        data: Where the data folder is now, if it has moved; for the page's thumbnails.
        page: Also draw the pictures and write the page.

    Raises:
        UsageError: No such source or head, predictions that have not been made, fewer than two contestants.
        DataError: Labels, samples or targets that differ; a file that can't be used.
    """
    if resamples < 1:
        raise UsageError(f"--resamples {resamples}: must be at least 1.")
    check_target(target)
    contestants = read_contestants(
        sources, split=split, head=head, labels=labels, separate=separate, root=Path(runs)
    )
    profile = None if costs is None else _read_costs(Path(costs))
    plan = Plan(resamples=resamples, seed=seed)
    texts, aligned = {}, None
    if any(isinstance(table, CountTable) for each in contestants for table in each.members):
        result = compare_counts(contestants, plan)
    else:
        aligned = merge_rare_labels(align_contestants(contestants, common=common))
        result = compare_aligned(aligned, plan)
        texts["disagreements.csv"] = format_disagreements_csv(aligned)
        apart = [] if separate else explain_apart(contestants)
        result = replace(result, notes=(*result.notes, *apart))
    result = add_phases(result, contestants, aligned=aligned, target=target, plan=plan)
    result = replace(result, costs=profile)
    content = result.to_dict()
    texts["headline.csv"] = format_headline_csv(content)
    texts["per_class.csv"] = format_per_class_csv(content)
    texts["confusion_differences.csv"] = format_confusions_csv(content)
    folder = _make_folder(output, Path(runs))
    atomic.write_json(folder / "comparison.json", content)
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    if page:
        root = None if data is None else Path(data).expanduser()
        write_comparison_figures(content, folder)
        build_comparison_page(content, folder, costs=profile, data_root=root)
    return replace(result, folder=folder)


def _read_costs(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"--costs {path}: there is no such file; 'praxiscope profile' writes profile.json.")
    content = atomic.read_json(path)
    if content.get("schema") != PROFILE_SCHEMA or not isinstance(content.get("entries"), list):
        raise DataError(f"--costs {path} is no profile.json of 'praxiscope profile': it lacks its entries.")
    return content


def _make_folder(output: Path | str | None, runs: Path) -> Path:
    """Make the folder for the files; a default name that is taken gets a number."""
    if output is not None:
        folder = Path(output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as problem:
            raise UsageError(f"--output {folder}: a file is there; give the name of a folder.") from problem
        return folder
    root = runs / "compare"
    root.mkdir(parents=True, exist_ok=True)
    name, number = f"{datetime.now(UTC):%Y%m%d-%H%M%S}", 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:  # another comparison in the same second
            number += 1
        else:
            return folder
