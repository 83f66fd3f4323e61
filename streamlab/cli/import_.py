"""`streamlab import`: a diff file from elsewhere, or the finished runs of another home."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.stored import base_option
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from streamlab.registry.whole import TakenIn

Row = tuple[str, str, int, str]
_COLUMNS = (
    Column("there"),
    Column("run"),
    Column("arrivals", "count"),
    Column("status"),
)


@click.command("import")
@click.argument("source", metavar="FILE|HOME", type=click.Path(path_type=Path, exists=True))
@click.option("--provider", metavar="NAME", help="Who made the diff of FILE.")
@click.option("--task", metavar="NAME", help="What FILE is for; default: what it says.")
@base_option
@format_option()
@with_place
def import_(
    source: Path,
    *,
    provider: str | None,
    task: str | None,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Take in a diff FILE, or all finished runs of another HOME.

    A FILE is checked against its base, which must be known here, and becomes the one arrival of
    a run of its own, by the method `imported`, with no score. Runs of a HOME come with their
    files, scores and curves. What is here already is left as it is, and nothing is written over:
    a run whose name another one has here gets the next number.

    \b
    Example:
      streamlab import sst2.diff.safetensors --provider reviews_inc
      streamlab import ../other-home
    """
    if source.is_dir():
        if provider or task or base:
            raise UsageError(
                "`--provider`, `--task` and `--base` are for a FILE; a HOME's runs have their own."
            )
        rows = _home(place, source)
    elif provider:
        rows = [_file(place, source, provider=provider, task=task, base=base)]
    else:
        raise UsageError(f"Say with `--provider` who made {source}.")
    print_table(Table("imports", "Imports", _COLUMNS, tuple(rows)), form)
    if not rows:
        click.echo(f"There is no finished run in the home {source}.", err=True)


def _home(place: Place, source: Path) -> list[Row]:
    from streamlab.home.import_home import check_home, import_home
    from streamlab.home.store import ArtifactStore
    from streamlab.registry.registry import Registry

    check_home(Home(source))  # before a home is made to take it in
    place.home.create()
    with Registry.open(place.url, clock=time.time) as registry:
        found = import_home(registry, ArtifactStore(place.home.store), place.home, Home(source))
    return [_row(one.there, one.taken, one.n_arrivals) for one in found]


def _file(place: Place, path: Path, *, provider: str, task: str | None, base: str | None) -> Row:
    place.open().close()  # where there is no registry, there is no base to check a file against
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.import_file import import_file
    from streamlab.registry.registry import Registry

    with Registry.open(place.url, clock=time.time) as registry:
        taken = import_file(
            registry,
            ArtifactStore(place.home.store),
            path,
            provider=provider,
            task=task,
            model=base,
        )
    return _row(path.name, taken, 1)


def _row(there: str, taken: TakenIn, n_arrivals: int) -> Row:
    return there, taken.run.name, n_arrivals, "new" if taken.is_new else "here already"
