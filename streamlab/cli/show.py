"""`streamlab show`: all of one thing."""

from __future__ import annotations

from typing import Literal

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import format_option, print_json, print_page
from streamlab.home.store import ArtifactStore
from streamlab.views.lookup import find_page


@click.command()
@click.argument("word", metavar="[KIND:]NAME", default="latest")
@click.option("--run", metavar="NAME", default="latest", help="Where a task is looked up.")
@format_option("table", "json")
@with_place
def show(word: str, *, place: Place, run: str, form: Literal["table", "json"]) -> None:
    """Show all of one run (the latest by default), arrival, diff, task or base.

    \b
    run:NAME         a run by name or number, or `latest`
    arrival:NUMBER   an arrival
    diff:DIGEST      a stored artifact, by the beginning of its digest
    task:NAME        a task in the latest run, or in that of --run
    base:DIGEST      a base, by the beginning of its fingerprint

    Without a KIND, the NAME may be a run, a task, or at least six digits of a diff's digest;
    one that means several of these is refused. Digests are shortened; json has them whole.

    \b
    Example:
      streamlab show glue_stream-1
      streamlab show arrival:7
    """
    with place.open() as registry:
        page = find_page(registry, word, run=run, store=ArtifactStore(place.home.store))
    if form == "json":
        print_json(page.tree())
    else:
        print_page(page)
