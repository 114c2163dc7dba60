"""``praxiscope recipes``."""

from __future__ import annotations

from typing import Any

import typer

from praxiscope.cli.grouped_help import ABOUT

_app = typer.Typer(help="List the built-in recipes, show one, list every key.", invoke_without_command=True)


def add_to(app: typer.Typer, settings: dict[str, Any]) -> None:
    """Add the command group."""
    app.add_typer(_app, name="recipes", rich_help_panel=ABOUT, context_settings=settings)


@_app.callback()
def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show_all()


@_app.command("list")
def show_all() -> None:
    """List the built-in recipes."""
    from praxiscope.recipe.load import list_recipes, load_recipe

    names = list_recipes()
    width = max(len(name) for name in names)
    for name in names:
        typer.echo(f"{name:<{width}}  {load_recipe(name).description}")


@_app.command("show")
def show_one(name: str) -> None:
    """Print a recipe's file: where it comes from, its command, its figures, its settings."""
    from praxiscope.recipe.load import read_recipe_text

    typer.echo(read_recipe_text(name), nl=False)


@_app.command("keys")
def show_keys() -> None:
    """List every key that --set takes, with its default."""
    from praxiscope.recipe.load import list_defaults

    for key, value in list_defaults().items():
        typer.echo(f"{key} = {value}")
