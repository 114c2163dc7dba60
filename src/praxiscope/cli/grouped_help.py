"""Help whose options stand in groups, as plain text: fit for a pipe, and without importing rich."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

ABOUT = "Data and this machine"
"""Title of the group of commands that train and judge nothing."""


class GroupedCommand(TyperCommand):
    """A command whose help lists options under their ``rich_help_panel``, in the order of the signature."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options; those without a group come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                fallback = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or fallback, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=34)


class GroupedCommands(TyperGroup):
    """A program whose help lists commands under their ``rich_help_panel``, a whole line each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups in the order in which their first commands were added."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None) or "Commands"
                groups.setdefault(title, []).append((name, command.get_short_help_str(limit=200)))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
