"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from praxiscope import __version__
from praxiscope.cli.arguments import normalize_arguments
from praxiscope.cli.grouped_help import GroupedCommands
from praxiscope.errors import EnvironmentProblem, PraxiscopeError, UsageError
from praxiscope.models.place import read_place
from praxiscope.runs.environment import is_first_rank

_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),  # --batch_size is --batch-size
    "max_content_width": 110,
}

app = typer.Typer(
    name="praxiscope",
    cls=GroupedCommands,
    help="From a folder of labelled human-action images to a model that its owner can defend.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


_TOGETHER = frozenset({"train", "evaluate", "val"})
"""Commands that several processes of one job (torchrun) do together."""


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 - read in main
) -> None:
    if version:
        typer.echo(f"praxiscope {__version__}")
        raise typer.Exit
    if context.invoked_subcommand not in _TOGETHER:
        _require_one_process(context.invoked_subcommand or "")


def _require_one_process(command: str) -> None:
    """Refuse torchrun where each of its processes would do the whole command, into the same files."""
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys() and (size := read_place().size) > 1:
        raise UsageError(
            f"`praxiscope {command}` runs in one process, and torchrun has started {size}: start it without "
            "torchrun. Only train and evaluate are shared by several."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit code.

    0 done, 2 usage, 3 environment, 4 data, 5 diverged, 75 preempted and resumable, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    # --debug is welcome anywhere on the line, not only before the command.
    words = normalize_arguments([word for word in given if word != "--debug"])
    try:
        _load_commands()
        app(args=words, prog_name="praxiscope")
    except PraxiscopeError as error:
        if debug:
            raise
        if not _is_said_by_first(error):
            sys.stderr.write(f"praxiscope: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("praxiscope: interrupted\n")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.filename is not None:
            # A path that was typed: a folder where a file should be, no permission, no such disk.
            sys.stderr.write(f"praxiscope: {error.strerror}: {error.filename} (--debug shows where)\n")
            sys.exit(EnvironmentProblem.exit_code)
        sys.stderr.write(
            f"praxiscope: unexpected {type(error).__name__}: {error}\n"
            "This is a fault in praxiscope; the same command with --debug shows where.\n"
        )
        sys.exit(1)


def _is_said_by_first(error: PraxiscopeError) -> bool:
    """Whether another process of a job (torchrun) shows the message: a wrong command line is wrong on all."""
    return error.is_told or (isinstance(error, UsageError) and not is_first_rank())


@functools.cache
def _load_commands() -> None:
    """Add the commands, once in a process."""
    from praxiscope.cli import cache_commands, commands, data_commands, recipe_commands

    commands.add_to(app)
    data_commands.add_to(app, _SETTINGS)
    recipe_commands.add_to(app, _SETTINGS)
    cache_commands.add_to(app, _SETTINGS)


if __name__ == "__main__":
    main()
