"""`streamlab rollback`: an earlier version of a task back in use."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.removal import removed_table
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError


@click.command()
@click.argument("word", metavar="TASK@VERSION")
@click.option("--run", metavar="NAME", help="In this run; default: the latest that has the task.")
@format_option()
@with_place
def rollback(word: str, *, place: Place, run: str | None, form: Format) -> None:
    """Put an earlier version of a task back to use.

    The task's later versions in that run are removed as by `rm`, for every seed and method,
    so that the task's name means the highest version that is left. `restore` brings them
    back, until `gc` lets them go.

    \b
    Example:
      streamlab rollback sst2@1
      streamlab rollback sst2@1 --run latest
    """
    from streamlab.inference.refs import run_of, split_version

    with place.open(read_only=False) as registry:
        task, version = split_version(registry, word)
        if version is None:
            raise UsageError(f"Say which version of `{word}` to use: `{word}@1`.")
        name = run_of(registry, task, run)
        gone = registry.roll_back(name, task, version)
    if not gone:
        click.echo(f"`{word}` is the highest version in `{name}` already.", err=True)
        return
    print_table(removed_table(gone), form)
    numbers = " ".join(str(arrival.id) for arrival in gone[:5])
    click.echo(
        f"`{task}` in `{name}` is at version {version} again. Undo with: streamlab restore "
        f"{numbers}{' ...' if len(gone) > 5 else ''}",
        err=True,
    )
