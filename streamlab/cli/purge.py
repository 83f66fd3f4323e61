"""`streamlab purge`: everything that came from one provider goes, for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.home.store import ArtifactStore
from streamlab.units import counted
from streamlab.views.table import Column, Table, readable

if TYPE_CHECKING:
    from streamlab.home.purge import Plan

_COLUMNS = (
    *(Column("what"), Column("name"), Column("digest", "digest"), Column("bytes", "bytes")),
    Column("note"),
    Column("file", default=False),
)


@click.command()
@click.option("--provider", required=True, metavar="NAME", help="Whose arrivals go.")
@click.option("--dry-run", is_flag=True, help="List what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove it; it cannot be brought back.")
@format_option()
@with_place
def purge(*, place: Place, provider: str, dry_run: bool, yes: bool, form: Format) -> None:
    """Remove for good everything that came from one provider, and list it.

    \b
    arrival      its rows, with scores and the device's log; removed ones too
    artifact     the file of its arrivals alone
    shared       a file that came from another provider too: it stays
    curve        what its training looked like
    quarantined  bytes that admission stopped

    The bytes of every other artifact are hashed before and after; the exit code is 1 where
    one of them changed. The log and the scenarios of runs go on naming the provider. What
    has a tag is not removed, nor anything while a run is being worked on.

    \b
    Example:
      streamlab purge --provider press --dry-run
      streamlab purge --provider press --yes
    """
    from streamlab.home.purge import carry_out, plan

    if dry_run == yes:
        raise UsageError("Say either `--dry-run` to list what would go, or `--yes` to remove it.")
    store = ArtifactStore(place.home.store)
    with place.open(read_only=dry_run) as registry:
        planned = plan(registry, store, place.home, provider)
        before = {} if dry_run else store.hashes(but=planned.going)
        if not dry_run:
            carry_out(registry, store, place.home, planned)
    rows = tuple(
        (p.kind, p.name, p.digest, p.n_bytes, p.note, str(p.path) if p.path else None)
        for p in planned.parts
    )
    table = Table("purge", "Purge", _COLUMNS, rows)
    print_table(table if form in ("json", "csv") else table.brief(), form)
    click.echo(_told(planned, dry_run=dry_run), err=True)
    if not dry_run:
        _compare(before, store.hashes(but=planned.going))


def _compare(before: dict[str, str], after: dict[str, str]) -> None:
    """Say whether every other artifact is as it was, and end with 1 where one is not."""
    changed = [digest for digest, found in before.items() if after.get(digest) != found]
    if changed:
        told = ", ".join(digest[:12] for digest in changed)
        click.echo(
            f"Error: of {len(before):,} other artifacts {len(changed):,} changed meanwhile: "
            f"{told}. `streamlab verify` tells more.",
            err=True,
        )
        click.get_current_context().exit(1)
    click.echo(f"All {len(before):,} other artifacts have the digest they had before.", err=True)


def _told(planned: Plan, *, dry_run: bool) -> str:
    counts = {
        "arrival": len(planned.of("arrival")),
        "artifact": len(planned.of("artifact")),
        "curve": len(planned.of("curve")),
        "quarantined file": len(planned.of("quarantined")),
    }
    listed = ", ".join(counted(count, noun) for noun, count in counts.items())
    verb = "Would remove" if dry_run else "Removed"
    shared = len(planned.of("shared"))
    told = f"{verb} of `{planned.provider}`: {listed}."
    if shared:
        told += f" {shared:,} shared with other providers stay{'s' if shared == 1 else ''}."
    return readable(told, "text")
