"""``praxiscope compare``: the verdict first, then the figures, then where the files are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.options import RunsFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_ROWS = 12
_FIGURES = {
    "top1": "top-1", "top5": "top-5", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
    "balanced_acc": "balanced accuracy", "nll": "NLL", "brier": "Brier score", "ece": "ECE",
}  # fmt: skip
_NOT_SHARES = frozenset({"nll", "brier"})


def compare(  # noqa: PLR0913, PLR0917 - one parameter a flag
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Runs (folders or RECIPE@latest), predictions files, CSVs or confusion matrices.",
        ),
    ],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="test, val or train.")] = "test",
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which head, of several; their joint answer otherwise."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME", help="What to call a contestant; once for each."),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the samples that all have; refused otherwise.")
    ] = False,
    separate: Annotated[
        bool, typer.Option("--separate", help="Keep runs that differ in their seed alone apart.")
    ] = False,
    costs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A profile.json: costs beside the accuracies.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Top-1 to reach, such as 0.35.")
    ] = None,
    resamples: Annotated[int, typer.Option(metavar="N", min=1, help="Of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the bootstrap.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the files; runs/compare/TIME."),
    ] = None,
    runs: RunsFolder = Path("runs"),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the data is now, if it has moved.")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Draw the pictures and the page.")] = True,
) -> None:
    """Compare models on the same samples: a verdict with its test, differences with 95 % intervals."""
    from praxiscope.workflows.compare import compare as run_comparison

    result = run_comparison(
        sources,
        output=output,
        head=head,
        split=split,
        labels=labels,
        resamples=resamples,
        seed=seed,
        costs=costs,
        target=target,
        common=common,
        separate=separate,
        runs=runs,
        data=data,
        page=page,
    )
    show_comparison(result.to_dict())
    typer.echo(f"Files: {result.folder}")
    if page:
        typer.echo(f"Page: {(result.folder or Path()) / 'comparison.html'}")


def show_comparison(content: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a comparison: verdict, notes, figures, what differs by class and by confusion.

    Args:
        content: Of ``comparison.json``.
        console: Where to; standard output by default.
    """
    from rich.console import Console

    console = console or Console(highlight=False, markup=False, soft_wrap=True)
    targets = [one["target"]["sentence"] for one in content["contestants"] if one.get("target")]
    for text in (content["verdict"], *targets, *content["notes"]):
        console.print(_escape(text))
    for table in (*_tabulate_figures(content), *_tabulate_differences(content)):
        console.print()
        console.print(table, soft_wrap=False)
    together = _tell_together(content)
    if together:
        console.print()
    for line in together:
        console.print(_escape(line))


def _tabulate_figures(content: Mapping[str, Any]) -> list[Table]:
    from praxiscope.reporting.comparison.phases import tabulate_phases
    from praxiscope.reporting.wording import NARROW

    labels = [one["label"] for one in content["contestants"]]
    table = _open_table([_name_samples(content), *labels], f"{_tell_title(content)}, 95 % intervals")
    for part in ("all", "clean"):
        sections = [one[part] for one in content["contestants"]]
        if any(section is None for section in sections):
            continue
        for name, title in _FIGURES.items():
            figures = [section[name] for section in sections]
            if any(figures) and (part == "all" or name == "top1"):
                suffix = " (clean)" if part == "clean" else ""
                _add_row(table, [title + suffix, *(_tell_figure(name, figure) for figure in figures)])
    for title, cells in tabulate_phases(content):
        _add_row(table, [text.replace(NARROW, " ") for text in (title, *cells)])
    return [table]


def _tabulate_differences(content: Mapping[str, Any]) -> list[Table]:
    tables = []
    for pair in content["pairs"]:
        first, second = pair["first"], pair["second"]
        apart = [row for row in pair["per_class"] if row["told_apart"]]
        more = f"; the {MAX_ROWS} largest differences" if len(apart) > MAX_ROWS else ""
        if apart:
            table = _open_table(
                ["class", "n", first, second, "difference", "p (Holm)"],
                f"Recall by class, told apart ({len(apart)} of {len(pair['per_class'])}{more})",
            )
            largest = sorted(apart, key=lambda one: -abs(one["difference"]))[:MAX_ROWS]
            for row in sorted(largest, key=lambda one: one["difference"]):
                _add_row(
                    table, [row["name"], f"{row['support']:,}", *_tell_recalls(row), _tell_p(row["p_holm"])]
                )
            tables.append(table)
        changed = [row for row in pair["confusion_differences"] if row["p_value"] < 0.05][:MAX_ROWS]
        if changed:
            table = _open_table(["answered", first, second, "p", "p (Holm)"], "Confusions that changed most")
            for row in changed:
                cells = [f"{row['target']} -> {row['preds']}", _count(row["first"]), _count(row["second"])]
                _add_row(table, [*cells, _tell_p(row["p_value"]), _tell_p(row["p_holm"])])
            tables.append(table)
    return tables


def _tell_together(content: Mapping[str, Any]) -> list[str]:
    lines = []
    for pair in content["pairs"]:
        agreement = pair["agreement"]
        if agreement is None:
            continue
        lines.append(
            f"{pair['first']} and {pair['second']} give the same answer on "
            f"{_percent(agreement['same_answer'])} of samples (kappa {_number(agreement['kappa'])}); "
            f"{pair['second']} repairs {_count(agreement['only_second'])} errors of {pair['first']} and "
            f"makes {_count(agreement['only_first'])} that it doesn't."
        )
    if content["oracle"]:
        lines.append(
            f"At least one is right on {_tell_figure('top1', content['oracle']['top1'])} of samples."
        )
    lines += [
        f"Together, by {one['rule']} of {' + '.join(one['members'])}: {_tell_figure('top1', one['top1'])}, "
        f"{_signed(one['difference']['value'])} against {one['against']} alone "
        f"({_equate_p(one['p_holm'])})."
        for one in content["ensembles"]
    ]
    return lines


def _open_table(columns: list[str], title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(_escape(title)), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(Text(_escape(column)), justify="left" if index == 0 else "right")
    return table


def _add_row(table: Table, cells: list[str]) -> None:
    from rich.text import Text

    table.add_row(*(Text(_escape(cell)) for cell in cells))


def _tell_title(content: Mapping[str, Any]) -> str:
    parts = [part for part in (content["split"], content["head"]) if part]
    return " ".join(parts) or "Figures"


def _name_samples(content: Mapping[str, Any]) -> str:
    return f"{content['samples']['n']:,} samples" if content["paired"] else "unpaired"


def _tell_figure(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    show = _number if name in _NOT_SHARES else _percent
    if figure["low"] is None:
        return show(figure["value"])
    low, high = (show(figure[end]).removesuffix(" %") for end in ("low", "high"))
    spread = f", sd {show(figure['sd'])}" if figure.get("sd") is not None else ""
    return f"{show(figure['value'])} ({low} to {high}{spread})"


def _tell_recalls(row: Mapping[str, Any]) -> list[str]:
    low, high = (_points(row[end]) for end in ("low", "high"))
    return [
        _percent(row["first"]),
        _percent(row["second"]),
        f"{_points(row['difference'])} ({low} to {high})",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} points"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _tell_p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def _equate_p(value: float) -> str:
    shown = _tell_p(value)
    return f"p < {shown[1:]}" if shown.startswith("<") else f"p = {shown}"


def _escape(text: str) -> str:
    from praxiscope.evaluation.typeset import escape_controls

    return escape_controls(text)
