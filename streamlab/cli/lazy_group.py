"""Groups of commands: loaded when they run, so that `--help` is instant; errors and exit codes.

    0 fine | 1 a finding or a failure | 2 usage | 130 interrupted

A pipe that its reader closed ends a command in silence; click and rich see to that.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import click

from streamlab.errors import StreamlabError
from streamlab.units import nearest, printable

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is defined, as "module:attribute" in `streamlab.cli`, and its help line."""

    place: str
    help: str

    def load(self) -> click.Command:
        """Import the command's module and return the command."""
        module, _, attribute = self.place.partition(":")
        command = getattr(importlib.import_module(f"streamlab.cli.{module}"), attribute)
        assert isinstance(command, click.Command), self.place  # noqa: S101 - a table of ours
        return command


class SuggestingGroup(click.Group):
    """A group that suggests the nearest command for a mistyped one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; raises UsageError with the nearest name."""
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-"):
            return super().resolve_command(ctx, args)
        hint = nearest(name, known, limit=1)
        raise click.UsageError(f"There is no command `{name}`. {hint}", ctx)


class LazyGroup(SuggestingGroup):
    """A group over a table of commands, which are imported when they are called."""

    table: ClassVar[Mapping[str, LazyCommand]]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one command; None where the table lacks the name."""
        found = self.table.get(cmd_name)
        return None if found is None else found.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table's own lines without loading a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command, and report what is wrong with them."""
        with reported(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and report its errors."""
        with reported(ctx):
            return super().invoke(ctx)


@contextmanager
def reported(ctx: click.Context) -> Iterator[None]:
    """Turn an error into one paragraph on standard error, and Ctrl-C into exit code 130."""
    try:
        yield
    except click.ClickException as error:
        from streamlab.cli.output import for_terminal

        prefix = "Error: "  # which click adds
        text = for_terminal(prefix + printable(error.message, keep="\n"))
        vars(error)["message"] = text.removeprefix(prefix)
        raise
    except StreamlabError as error:
        _report(str(error))
        ctx.exit(error.exit_code)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # handled by click
        where = f" of {error.filename}" if error.filename else " of this command's output"
        _report(
            f"The system refused a step{where}: {error.strerror or error}. Make room or choose "
            "another place, and try again."
        )
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        ctx.exit(INTERRUPTED)


def _report(problem: str) -> None:
    from streamlab.cli.output import note  # which takes longer to import than help to print

    note(f"Error: {problem}")
