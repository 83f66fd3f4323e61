"""`streamlab tag`: names that people give to runs, arrivals and diffs."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.views.listings import list_records
from streamlab.views.lookup import find_taggable, split_tag


@click.command()
@click.argument("name", required=False)
@click.argument("thing", metavar="[KIND:]THING", required=False)
@click.option("--remove", is_flag=True, help="Take the tag NAME off.")
@format_option()
@with_place
def tag(name: str | None, thing: str | None, *, place: Place, remove: bool, form: Format) -> None:
    """Give a run, an arrival or a diff a NAME of your own, or list the names there are.

    THING is run:NAME, arrival:NUMBER or diff:DIGEST, or what of these `show` would take
    without a KIND. `show` then takes the NAME, and `gc` leaves alone what has one. A
    NAME is on one thing of each kind; `--remove KIND:NAME` says which.

    \b
    Example:
      streamlab tag best arrival:1
      streamlab tag
      streamlab tag --remove best
    """
    if name is None:
        with place.open() as registry:
            table = list_records(registry, "tags")
        print_table(table, form)
        if not table.rows:
            click.echo("There is no tag yet. Make one with: streamlab tag NAME THING", err=True)
    elif remove:
        if thing is not None:
            raise UsageError(f"`--remove` takes the name of a tag only; leave {thing!r} out.")
        with place.open(read_only=False) as registry:
            gone = registry.remove_tag(*split_tag(name))
        click.echo(f"Took `{gone.name}` off {gone.kind} {gone.target}.", err=True)
    elif thing is None:
        raise UsageError(
            f"Say what `{name}` is to be on: `streamlab tag {name} arrival:1`, or take it off "
            f"with `streamlab tag --remove {name}`."
        )
    else:
        with place.open(read_only=False) as registry:
            made = registry.add_tag(name, *find_taggable(registry, thing))
        click.echo(f"`{made.name}` is on {made.kind} {made.target}.", err=True)
