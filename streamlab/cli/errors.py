"""How an error reaches the person at the terminal: one paragraph and an exit code.

    0 fine | 1 a finding or a failure | 2 usage | 130 interrupted

A pipe that its reader closed ends a command in silence; click and rich see to that.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

from streamlab.errors import StreamlabError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def reported(ctx: click.Context) -> Iterator[None]:
    """Turn an error into one paragraph on standard error, and Ctrl-C into exit code 130."""
    try:
        yield
    except StreamlabError as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(error.exit_code)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click's affair
        where = f" of {error.filename}" if error.filename else " of this command's output"
        click.echo(
            f"Error: The system refused a step{where}: {error.strerror or error}. Make room or "
            "choose another place, and try again.",
            err=True,
        )
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        ctx.exit(INTERRUPTED)
