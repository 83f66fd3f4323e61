"""Taking back, for good, everything that came from one provider."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select, update

from streamlab.errors import RegistryError
from streamlab.registry import events, removal, runs
from streamlab.registry.pieces import in_pieces
from streamlab.registry.removal import Garbage
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, TagRow
from streamlab.units import counted


def revoke(
    connection: Connection, provider: str, numbers: Collection[int], *, now: float
) -> tuple[Garbage, ...]:
    """Delete the rows of a provider's arrivals, and return the artifacts that went with them.

    Raises RegistryError where its arrivals are other than `numbers` by now, a run is being worked
    on, or a tag is on what would go.
    """
    refuse_live_runs(connection, now=now)
    found = _digests(connection, provider)
    if found.keys() != set(numbers):
        raise RegistryError(
            f"More came from `{provider}`, or less is left of it, since that was looked up; "
            "nothing was removed. Try again."
        )
    _refuse_tagged(connection, provider)
    for batch in in_pieces(list(found)):
        left = (ArrivalRow.id.in_(batch)) & ArrivalRow.removed_at.is_(None)
        connection.execute(update(ArrivalRow).where(left).values(removed_at=now))
    lines = [(str(number), f"from `{provider}`", digest) for number, digest in found.items()]
    events.append_all(connection, "arrival-revoked", lines, at=now)
    return removal.forget(connection, found, now=now)


def refuse_live_runs(connection: Connection, *, now: float) -> None:
    """Raise RegistryError while a run is worked on, which may be storing the very same files."""
    for run in runs.latest(connection, None, now=now):
        if run.status == "running":
            raise RegistryError(
                f"The run `{run.name}` is being worked on by process {run.pid} on {run.host!r}, "
                "and may need what is to go. Wait for it to end, or stop it first."
            )


def _digests(connection: Connection, provider: str) -> dict[int, str | None]:
    """Return the digest of each arrival of a provider, removed ones too."""
    query = (
        select(ArrivalRow.id, DiffRow.digest)
        .join(ProviderRow, ProviderRow.id == ArrivalRow.provider_id)
        .join(DiffRow, DiffRow.id == ArrivalRow.diff_id, isouter=True)
        .where(ProviderRow.name == provider)
        .order_by(ArrivalRow.id)
    )
    return {row.id: row.digest for row in connection.execute(query)}


def _refuse_tagged(connection: Connection, provider: str) -> None:
    keeps = (
        (TagRow.arrival_id == ArrivalRow.id)
        | (TagRow.run_id == ArrivalRow.run_id)
        | (TagRow.diff_id == ArrivalRow.diff_id)
    )
    query = (
        select(TagRow.kind, TagRow.name)
        .distinct()
        .join(ArrivalRow, keeps)
        .join(ProviderRow, ProviderRow.id == ArrivalRow.provider_id)
        .where(ProviderRow.name == provider)
        .order_by(TagRow.kind, TagRow.name)
    )
    tags = [f"{kind}:{name}" for kind, name in connection.execute(query)]
    if tags:
        raise RegistryError(
            f"What came from `{provider}` is kept by "
            f"{counted(len(tags), 'tag')}: {', '.join(f'`{tag}`' for tag in tags)}. Nothing was "
            f"removed; take each off first: `streamlab tag --remove {tags[0]}`."
        )
