"""``praxiscope bakeoff``: which model, within a time box."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from praxiscope.cli.arguments import LATEST, collect_overrides, split_names
from praxiscope.cli.options import Device

_DEFAULTS = ("same-recipe", 3, 2)  # mode, seeds, finalists


def bakeoff(  # noqa: PLR0913, PLR0917 - one parameter a flag
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", metavar="A,B,C", help="Models; with best-recipe also recipes."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "--datapath", metavar="DIR", help="The data folder.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time box: 60m, 2h, 90s, 1h30m.")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="same-recipe, or best-recipe: each model by its own.")
    ] = _DEFAULTS[0],
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recipe of same-recipe: built in or a .yaml file.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Seeds of each finalist.")] = _DEFAULTS[1],
    finalists: Annotated[int, typer.Option(metavar="N", help="Models that get seeds.")] = _DEFAULTS[2],
    max_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs that no training exceeds; default: the recipe's.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A recipe key for all.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="A new folder; default: runs/bakeoff/<time>."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="[DIR]", help="Go on with a bake-off; bare: the newest.")
    ] = None,
    device: Device = None,
) -> None:
    """Find out which of several models suits the data best, within a time box.

    Decided on validation by successive halving; the finalists get several seeds and the test split, once.
    """
    from praxiscope.cli.display import open_display
    from praxiscope.errors import UsageError
    from praxiscope.reporting.bakeoff import describe_outcome
    from praxiscope.workflows.bakeoff import bakeoff as run_bakeoff
    from praxiscope.workflows.bakeoff import resume_bakeoff

    with open_display() as display:
        if resume is not None:
            absent = (models, data, budget, recipe, max_epochs, settings, output, device)
            if any(given is not None for given in absent) or (mode, seeds, finalists) != _DEFAULTS:
                raise UsageError(
                    "--resume goes on with what was asked for at the start; leave the other flags out."
                )
            result = resume_bakeoff(None if resume == LATEST else resume, watch=display)
        else:
            if models is None or data is None or budget is None:
                raise UsageError(
                    "A bake-off needs --models A,B,C, --data DIR and --budget TIME (60m), or --resume DIR."
                )
            result = run_bakeoff(
                split_names(models) or (),
                data=data,
                budget=budget,
                mode=mode,
                recipe=recipe,
                overrides=collect_overrides({}, settings or ()),
                finalists=finalists,
                seeds=seeds,
                max_epochs=max_epochs,
                output=output,
                device=device,
                watch=display,
                command=["praxiscope", *sys.argv[1:]],
            )
    typer.echo(format_ranking(result.content))
    typer.echo(describe_outcome(result.content))
    typer.echo(f"Page: {result.page}")


def format_ranking(content: Mapping[str, Any]) -> str:
    """Return the ranking as a table, with the time box at its foot."""
    from praxiscope.tournament.budget import format_time

    rows = content["ranking"]
    width = max(len("model"), *(len(row["contestant"]) for row in rows))
    lines = [f"   {'model':<{width}}  epochs  {content['monitor']:>12}  test top-1     got to"]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        test = "-" if row["test"] is None else f"{100 * row['test']['top1']:.1f} %"
        spread = (row["test"] or {}).get("spread")
        test += "" if spread is None else f" +- {100 * spread:.1f}"
        lines.append(
            f"{row['place']:>2} {row['contestant']:<{width}}  {row['epochs']:>6}  {value:>12}  {test:<13}  "
            f"{row['stage']}"
        )
        if row["reason"]:
            lines.append(f"   {'':<{width}}  {row['reason']}")
    spent, budget = content["spent_s"], content["budget_s"]
    lines.append(f"{format_time(spent)} of {format_time(budget)} spent, {format_time(budget - spent)} left.")
    return "\n".join(lines)
