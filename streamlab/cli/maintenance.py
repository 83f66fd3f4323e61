"""Commands that remove, restore, delete and verify what a home holds, and upgrade its tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from streamlab.cli.completion import ARRIVALS, names_of
from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.options import Place, run_named, where_option, with_place
from streamlab.cli.output import Format, format_option, note, print_table
from streamlab.errors import StreamlabError, UsageError
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.references import find_arrivals, find_version
from streamlab.units import counted, format_bytes
from streamlab.views.listings import parse_where
from streamlab.views.table import Table, columns, readable, tabulate

if TYPE_CHECKING:
    from streamlab.home.purge import Kind, Plan
    from streamlab.registry.conditions import Condition
    from streamlab.registry.database import Database

_ARRIVAL_COLUMNS = columns("id: number, run, seed: number, task, method, digest: digest")
references_argument = click.argument(
    "references", metavar="[REFERENCE]...", nargs=-1, shell_complete=names_of(*ARRIVALS)
)
within_option = run_named("Of a task or a condition, take only the arrivals in this run.")
condition_option = where_option("Only arrivals that meet this condition, without names of all,")


@click.command()
@references_argument
@within_option
@condition_option
@format_option()
@with_place
def rm(
    references: tuple[str, ...],
    *,
    place: Place,
    run: str | None,
    where: str | None,
    form: Format,
) -> None:
    """Remove arrivals: single ones by number, or all of a task, a version, a diff or a run.

    Removed arrivals are left out of listings, scores, plots and `du`. Their files stay and
    `restore` brings them back until `gc` deletes them. `run --resume` repeats the removed
    arrivals of an unfinished run.

    \b
    Example:
      streamlab rm 3 4
      streamlab rm task:sst2 --run latest
      streamlab rm --run latest --where 'score < 60%'
    """
    condition = _chosen_by(references, where)
    with place.home.reserve_freed(), place.open(read_only=False) as registry:
        chosen = find_arrivals(registry, references, run=run, where=condition)
        removed = registry.removal.remove([arrival.id for arrival in chosen])
    print_table(tabulate("arrivals", "Arrivals", _ARRIVAL_COLUMNS, removed), form)
    note(f"Removed {counted(len(removed), 'arrival')}. {_undo(removed)}")


@click.command()
@references_argument
@within_option
@condition_option
@format_option()
@with_place
def restore(
    references: tuple[str, ...],
    *,
    place: Place,
    run: str | None,
    where: str | None,
    form: Format,
) -> None:
    """Restore removed arrivals, named as for `rm`.

    `ls arrivals --removed` lists them.

    \b
    Example:
      streamlab restore 8
    """
    condition = _chosen_by(references, where, removed=True)
    with place.open(read_only=False) as registry:
        chosen = find_arrivals(registry, references, run=run, removed=True, where=condition)
        restored = registry.removal.restore([arrival.id for arrival in chosen])
    print_table(tabulate("arrivals", "Arrivals", _ARRIVAL_COLUMNS, restored), form)
    note(f"Restored {counted(len(restored), 'arrival')}.")


def _chosen_by(
    references: tuple[str, ...], where: str | None, *, removed: bool = False
) -> Condition | None:
    """Return the condition of `--where`. Raises UsageError where nothing chooses an arrival."""
    if not references and where is None:
        raise UsageError(
            "Say which arrivals, as in `arrival:3`, `task:sst2` or `--where 'score < 60%'`."
        )
    return parse_where("arrivals", where, removed=removed)


def _undo(removed: Sequence[ArrivalRecord]) -> str:
    numbers = " ".join(str(arrival.id) for arrival in removed[:5])
    return f"Undo with: streamlab restore {numbers}{' ...' if len(removed) > 5 else ''}"


@click.command()
@click.argument("reference", metavar="TASK@VERSION", shell_complete=names_of("task", "arrival tag"))
@run_named("The run; default: the latest with the task.")
@format_option()
@with_place
def rollback(reference: str, *, place: Place, run: str | None, form: Format) -> None:
    """Use an earlier version of a task again.

    The task's later versions in the run are removed as by `rm`, for every seed and method, so
    that the task's name means the highest remaining version. `restore` brings them back until
    `gc` deletes them. The version can also be given as one of its arrivals.

    \b
    Example:
      streamlab rollback sst2@1
      streamlab rollback sst2@1 --run latest
    """
    with place.open(read_only=False) as registry:
        name, task, version = find_version(registry, reference, run)
        gone = registry.removal.roll_back(name, task, version)
    if not gone:
        note(f"`{task}@{version}` is the highest version in `{name}` already.")
        return
    print_table(tabulate("arrivals", "Arrivals", _ARRIVAL_COLUMNS, gone), form)
    note(f"`{task}` in `{name}` is at version {version} again. {_undo(gone)}")


_PURGE_COLUMNS = columns("what, name, digest: digest, bytes: bytes, note, [file]")


@click.command()
@click.option(
    "--provider", metavar="NAME", shell_complete=names_of("provider"),
    help="The provider to delete.",
)  # fmt: skip
@click.option(
    "--run", metavar="RUN", shell_complete=names_of("run"), help="The run to delete, by its name."
)
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.option("--yes", is_flag=True, help="Delete; this cannot be undone.")
@format_option()
@with_place
def purge(
    *, place: Place, provider: str | None, run: str | None, dry_run: bool, yes: bool, form: Format
) -> None:
    """Delete everything that one provider submitted, or one run, and list it.

    \b
    arrival      its records with scores and device log, removed ones too
    artifact     a file that only its arrivals use
    shared       a file that other arrivals have too: it stays
    curve        the loss and density of its training
    quarantined  bytes that admission refused of the provider

    All other artifacts are hashed before and after; the exit code is 1 if one of them changed.
    The event log still names the provider or the run, and the scenarios of runs the provider.
    Nothing is deleted while a run is active or while a tag is on something that would be deleted.
    A purge that was interrupted is finished by the same command.

    \b
    Example:
      streamlab purge --provider press --dry-run
      streamlab purge --provider press --yes
      streamlab purge --run glue_stream-1 --dry-run
    """
    from streamlab.home.purge import carry_out, plan

    if (provider is None) == (run is None):
        raise UsageError("Give either `--provider` or `--run`.")
    if dry_run == yes:
        raise UsageError("Give either `--dry-run` to list, or `--yes` to delete.")
    with place.home.reserve_freed(not dry_run), place.open(read_only=dry_run) as registry:
        store = place.find_store(registry, changing=not dry_run)
        planned = plan(registry, store, place.home, provider=provider, run=run)
        before = {} if dry_run else store.contents(but=planned.going)
        if not dry_run:
            carry_out(registry, store, place.home, planned)
    rows = tuple((p.kind, p.name, p.digest, p.n_bytes, p.note, p.where) for p in planned.parts)
    print_table(Table("purge", "Purge", _PURGE_COLUMNS, rows), form)
    note(_summary(planned, dry_run=dry_run))
    if not dry_run:
        _compare_contents(before, store.contents(but=planned.going))


def _compare_contents(before: dict[str, str], after: dict[str, str]) -> None:
    """Report whether the other artifacts are unchanged; exit with 1 if one is not."""
    changed = [digest for digest, found in before.items() if after.get(digest) != found]
    if changed:
        listed = ", ".join(digest[:12] for digest in changed)
        raise StreamlabError(
            f"{len(changed):,} of {len(before):,} other artifacts changed meanwhile: {listed}. "
            "`streamlab verify` has details."
        )
    note(f"All {len(before):,} other artifacts are unchanged.")


def _summary(planned: Plan, *, dry_run: bool) -> str:
    nouns: dict[Kind, str] = {
        "arrival": "arrival", "artifact": "artifact", "curve": "curve",
        "quarantined": "quarantined file",
    }  # fmt: skip
    listed = ", ".join(counted(len(planned.of(kind)), noun) for kind, noun in nouns.items())
    verb = "Would delete" if dry_run else "Deleted"
    shared = len(planned.of("shared"))
    kept = f" Files shared with other arrivals stay: {shared:,}." if shared else ""
    earlier = " It goes on with a purge that was interrupted." if planned.was_interrupted else ""
    return readable(f"{verb} for {planned.of_what}: {listed}.{kept}{earlier}", "text")


_GC_COLUMNS = columns("reason, digest: digest, bytes: bytes, [file]")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.option(
    "--now", "young_too", is_flag=True, help="Include young orphans and refused submissions."
)
@format_option()
@with_place
def gc(*, place: Place, dry_run: bool, young_too: bool, form: Format) -> None:
    """Delete files that are no longer needed, and removed arrivals for good.

    \b
    removed      a file that only removed arrivals use
    orphan       a file without a record
    leftover     a partial file that a process left behind
    quarantined  a submission that the probe refused a week ago

    Everything tagged is kept. So is a file without a record that is younger than an hour, since
    its record may still be written. Nothing is deleted while the database is damaged, and no
    file without a record while a record lacks its file. Files of 32 KiB or less that are older
    than an hour (with --now: all) are then packed into one, which saves the rest of their disk
    blocks.

    \b
    Example:
      streamlab gc --dry-run
      streamlab gc
    """
    from streamlab.home.gc import GRACE_SECONDS, collect, plan

    with place.home.reserve_freed(not dry_run), place.open(read_only=dry_run) as registry:
        store = place.find_store(registry, changing=not dry_run)
        planned = plan(registry, store, now=time.time(), young_too=young_too, home=place.home)
        rows = tuple((w.reason, w.digest, w.n_bytes, w.where) for w in planned.files)
        print_table(Table("files", "Files", _GC_COLUMNS, rows), form)
        gone = list(planned.files if dry_run else collect(registry, store, planned))
        before = time.time() - (0.0 if young_too else GRACE_SECONDS)
        n_packed = 0 if dry_run else store.pack(before=before)
    verb = "Would delete" if dry_run else "Deleted"
    note(
        f"{verb} {counted(len(gone), 'file')}, {format_bytes(sum(w.n_bytes for w in gone))}, "
        f"and {counted(len(planned.arrivals), 'removed arrival')} for good."
    )
    if n_packed:
        note(f"Packed {counted(n_packed, 'small file')} into one.")
    if planned.n_young:
        note(f"Kept {counted(planned.n_young, 'file')} younger than an hour.")
    if planned.n_held:
        note(
            f"Kept {counted(planned.n_held, 'file')} without a record, since a record lacks its "
            "file. `streamlab verify` lists them."
        )


_FINDING_COLUMNS = columns("finding, digest: digest, detail, what_to_do, [file]")


@click.command()
@format_option()
@with_place
def verify(*, place: Place, form: Format) -> None:
    """Check every stored file against its digest and its record, and the database.

    Every file is read and nothing is changed. The exit code is 1 if anything is found; json and
    csv name each file. Edited scores, times and names cannot be detected.

    \b
    missing     a record without its file
    truncated   a file that lost its end
    altered     a file whose bytes changed
    unreadable  a file that cannot be read
    row         a record that contradicts its file
    orphan      a file without a record
    leftover    a partial file that a process left behind
    stray       something in the store that is not an artifact
    unused      the record of an artifact without any arrival
    lost        an arrival whose artifact has no record
    database    a damaged database, or a record that refers to nothing

    \b
    Example:
      streamlab verify
      streamlab verify --format json
    """
    from streamlab.home.verify import verify as verified

    with place.open() as registry:
        store = place.find_store(registry)
        found = list(verified(registry, store, now=time.time(), home=place.home))
        n_artifacts = 0 if found else registry.artifacts.count()
    rows = tuple((f.problem, f.digest, f.detail, f.advice, f.where) for f in found)
    print_table(Table("findings", "Findings", _FINDING_COLUMNS, rows), form)
    if found:
        raise StreamlabError(f"{counted(len(found), 'finding')} in the home {place.home.path}.")
    note(f"Checked {counted(n_artifacts, 'artifact')} and the registry: no problem found.")


@click.group(cls=SuggestingGroup)
def db() -> None:
    """Show or upgrade the schema of the registry, or copy it to another database.

    \b
    Example:
      streamlab db current
      streamlab db upgrade
    """


@db.command()
@format_option()
@with_place
def current(*, place: Place, form: Format) -> None:
    """Show the schema version of the registry and the newest one.

    \b
    Example:
      streamlab db current --format json
    """
    from streamlab.registry import schema

    with _opened(place, read_only=True) as database:
        found = schema.existing(database)
    status = "up to date" if found == schema.NEWEST else "outdated"
    rows = ((found, schema.NEWEST, status),)
    print_table(Table("db", "Tables", columns("version, newest, status"), rows), form)
    if found != schema.NEWEST:
        note("Upgrade with: streamlab db upgrade")


@db.command()
@format_option()
@with_place
def upgrade(*, place: Place, form: Format) -> None:
    """Upgrade the schema of the registry in one transaction.

    Every row is kept. No backup is made: copy registry.db first while nothing uses it. Refused
    while a run is active.

    \b
    Example:
      streamlab db upgrade
    """
    from streamlab.registry import schema

    with _opened(place, read_only=True) as database:
        schema.existing(database)  # first, so that no file is created
    with _opened(place, read_only=False) as database:
        steps = schema.upgrade(database)
    print_table(tabulate("steps", "Steps", columns("version, change"), steps), form)
    upgraded = f"Upgraded to version {schema.NEWEST}; every row was kept."
    note(upgraded if steps else "The schema is up to date.")


@db.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@format_option()
def copy(*, source: str, target: str, form: Format) -> None:
    """Copy a registry to another database, in one transaction, and compare every row.

    FROM and TO are SQLAlchemy URLs. TO must be empty, and keeps all of it or
    nothing. Refused while a run is active. Artifacts stay in the home.

    \b
    Example:
      streamlab db copy sqlite:///home/registry.db sqlite:///copy.db
    """
    from streamlab.registry.transfer import copy_registry

    copied = copy_registry(source, target, clock=time.time)
    print_table(tabulate("tables", "Tables", columns("table, rows"), copied), form)
    note("Every row was read back and compared. Name the copy with `--registry`.")


def _opened(place: Place, *, read_only: bool) -> closing[Database]:
    """Open the database at any schema version. Raises RegistryError."""
    from streamlab.registry.database import Database

    place.require()
    return closing(Database(place.url, read_only=read_only))
