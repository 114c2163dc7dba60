"""``praxiscope cache``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from praxiscope.cli.grouped_help import ABOUT

if TYPE_CHECKING:
    from praxiscope.workflows.cache import CacheItem

_app = typer.Typer(
    help="List, clear and trim what can be made again: packed images, features, fingerprints of files.",
    invoke_without_command=True,
)


def add_to(app: typer.Typer, settings: dict[str, Any]) -> None:
    """Add the command group."""
    app.add_typer(_app, name="cache", rich_help_panel=ABOUT, context_settings=settings)


@_app.callback()
def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        show()


@_app.command("list")
def show() -> None:
    """List what the cache holds: kind, size, last use, path."""
    from praxiscope.workflows.cache import describe_cache, list_cache

    typer.echo("\n".join(describe_cache(list_cache())))


@_app.command("clear")
def clear(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="packs, features or audit; everything if left out.")
    ] = None,
    older_than: Annotated[
        float,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Only what was not used for so long."),
    ] = 0.0,
) -> None:
    """Remove what is not in use; it is made again when it is needed."""
    from praxiscope.workflows.cache import clear_cache

    _say(clear_cache(what, older_than_days=older_than))


@_app.command("trim")
def trim(
    max_gib: Annotated[
        float, typer.Option("--max-gib", metavar="X", help="What packs and features may take.")
    ],
) -> None:
    """Remove packs and features, the longest unused first, until they take no more than X GiB."""
    from praxiscope.workflows.cache import trim_cache

    _say(trim_cache(max_gib))


def _say(removed: Sequence[CacheItem]) -> None:
    from praxiscope.runs.atomic import format_bytes

    for item in removed:
        typer.echo(f"removed: {item.path} ({format_bytes(item.size_bytes)})")
    total = format_bytes(sum(item.size_bytes for item in removed))
    typer.echo(f"{total} freed" if removed else "nothing to remove")
