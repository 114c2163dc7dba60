"""``praxiscope debug``: look before the long training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from praxiscope.cli.arguments import collect_overrides, split_names
from praxiscope.cli.options import Device

if TYPE_CHECKING:
    from praxiscope.debugging.result import Check


def debug(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A built-in recipe or a .yaml file.")],
    data: Annotated[Path, typer.Option("--data", "--datapath", metavar="DIR", help="The data folder.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Only these checks, separated by commas.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Same data and split as this run? What else differs?")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")] = Path(
        "runs"
    ),
    device: Device = None,
) -> None:
    """Check a recipe on its data in about a minute, before the long training. Exit code 4: a fault."""
    from praxiscope.cli.display import open_display
    from praxiscope.recipe.load import load_recipe
    from praxiscope.reporting.debugging import describe_checks
    from praxiscope.workflows.debug import debug as run_checks

    with open_display() as display:
        result = run_checks(
            load_recipe(recipe, collect_overrides({}, settings or ())),
            data=data,
            only=split_names(only) or (),
            against=against,
            output=output,
            device=device,
            watch=display,
            tell=lambda check: typer.echo(format_check(check)),
        )
    typer.echo(describe_checks(result.checks))
    typer.echo(f"Page: {result.page}")
    if result.faults:
        raise typer.Exit(4)


def format_check(check: Check) -> str:
    """Return a check's line."""
    return f"{check.status:<8} {check.name:<11} {check.line}"
