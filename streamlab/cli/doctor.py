"""`streamlab doctor`: is everything there that a run needs?"""

from __future__ import annotations

import click

from streamlab.cli.checks import find_out
from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.views.table import Column, Table

_TORCH_SECONDS = 60.0
_HUB_SECONDS = 2.0


@click.command()
@format_option()
@with_place
def doctor(*, place: Place, form: Format) -> None:
    """Check versions, processor, compiler, GPU, hub, home, disk and registry.

    `note` is worth knowing and stops nothing. The exit code is 1 where something is `broken`.

    \b
    Example:
      streamlab doctor
    """
    findings = list(find_out(place, torch_seconds=_TORCH_SECONDS, hub_seconds=_HUB_SECONDS))
    columns = (Column("check"), Column("status"), Column("found"))
    rows = tuple((finding.name, finding.status, finding.found) for finding in findings)
    print_table(Table("checks", "Checks", columns, rows), form)
    broken = [finding.name for finding in findings if finding.status == "broken"]
    if broken:
        click.echo(f"Error: a run cannot do without: {', '.join(broken)}.", err=True)
        click.get_current_context().exit(1)
