"""A group of commands that are loaded when they run, so that `--help` is instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import click

from streamlab.cli.errors import reported
from streamlab.units import nearest


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives, as "module:attribute", and its line in `--help`."""

    place: str
    help: str

    def load(self) -> click.Command:
        """Import the command's module and return the command."""
        module, _, attribute = self.place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), self.place  # noqa: S101 - a table of ours
        return command


class LazyGroup(click.Group):
    """A group over a table of names, which suggests the nearest name for a mistyped one."""

    table: ClassVar[Mapping[str, LazyCommand]]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one command; None where the table lacks the name."""
        found = self.table.get(cmd_name)
        return None if found is None else found.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table's own lines, and load nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; raises UsageError with the nearest name."""
        name = args[0]
        if name in self.table or name.startswith("-"):
            return super().resolve_command(ctx, args)
        hint = nearest(name, self.table, limit=1)
        raise click.UsageError(f"There is no command `{name}`. {hint}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn what this package raises into one paragraph."""
        with reported(ctx):
            return super().invoke(ctx)
