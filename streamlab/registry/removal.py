"""Removing arrivals: at first they are only left out; what nothing needs is forgotten later.

What a tag is on is never forgotten: an arrival, its artifact, or its run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, select, update

from streamlab.errors import RegistryError
from streamlab.registry import arrivals, events, runs
from streamlab.registry.pieces import in_pieces
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.tables import ArrivalRow, DiffRow, PlacementRow, ScoreRow, TagRow


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """An artifact whose arrivals were all removed, the last of them at `removed_at`."""

    digest: str
    file_bytes: int
    removed_at: float


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What may be forgotten: removed arrivals, and the artifacts that go with them."""

    arrivals: tuple[int, ...]
    artifacts: tuple[Garbage, ...]


@dataclass(frozen=True)
class _Gone:
    """A removed arrival that no tag keeps."""

    id: int
    diff_id: int | None
    removed_at: float


def remove(connection: Connection, numbers: Sequence[int], *, now: float) -> list[ArrivalRecord]:
    """Leave arrivals out from now on. Raises RegistryError for one that is removed already."""
    return [_marked(connection, number, at=now, now=now) for number in numbers]


def restore(connection: Connection, numbers: Sequence[int], *, now: float) -> list[ArrivalRecord]:
    """Bring removed arrivals back. Raises RegistryError for one that is not removed.

    Or that was made anew since: there cannot be two of it.
    """
    return [_marked(connection, number, at=None, now=now) for number in numbers]


def removed(connection: Connection, *, but: Collection[str] = ()) -> Removed:
    """Return what may be forgotten, without the artifacts `but` and their arrivals."""
    gone = _gone(connection)
    met = Counter(one.diff_id for one in gone if one.diff_id is not None)
    needed = _needed(connection, met)
    artifacts = _artifacts(connection, gone, met.keys() - needed)
    kept = {number for number, artifact in artifacts.items() if artifact.digest in but}
    return Removed(
        arrivals=tuple(one.id for one in gone if one.diff_id not in kept),
        artifacts=tuple(a for number, a in sorted(artifacts.items()) if number not in kept),
    )


def forget(connection: Connection, numbers: Collection[int], *, now: float) -> tuple[Garbage, ...]:
    """Delete the rows of removed arrivals, and return the artifacts whose rows went with them.

    Of `numbers` only those go that may still be forgotten: a tag or a return keeps the others.
    """
    wanted = set(numbers)
    chosen = [one for one in _gone(connection) if one.id in wanted]
    met = Counter(one.diff_id for one in chosen if one.diff_id is not None)
    artifacts = _artifacts(connection, chosen, met.keys() - _needed(connection, met))
    for batch in in_pieces([one.id for one in chosen]):
        connection.execute(delete(ScoreRow).where(ScoreRow.arrival_id.in_(batch)))
        connection.execute(delete(PlacementRow).where(PlacementRow.arrival_id.in_(batch)))
        connection.execute(delete(ArrivalRow).where(ArrivalRow.id.in_(batch)))
    for batch in in_pieces(list(artifacts)):
        connection.execute(delete(DiffRow).where(DiffRow.id.in_(batch)))
    for one in chosen:
        artifact = artifacts.get(one.diff_id or 0)
        digest = None if artifact is None else artifact.digest
        events.append(connection, "arrival-forgotten", str(one.id), "", at=now, digest=digest)
    return tuple(artifact for _, artifact in sorted(artifacts.items()))


def _marked(connection: Connection, number: int, *, at: float | None, now: float) -> ArrivalRecord:
    arrival = arrivals.get(connection, number)
    _refuse(connection, arrival, restoring=at is None, now=now)
    changed = update(ArrivalRow).where(ArrivalRow.id == number).values(removed_at=at)
    connection.execute(changed)
    kind = "arrival-restored" if at is None else "arrival-removed"
    events.append(connection, kind, str(number), "", at=now, digest=arrival.digest)
    return arrivals.get(connection, number)


def _refuse(connection: Connection, arrival: ArrivalRecord, *, restoring: bool, now: float) -> None:
    run = runs.get(connection, arrival.run_id, now=now)
    if run.status == "running":
        raise RegistryError(
            f"Arrival {arrival.id} belongs to the run `{run.name}`, which process {run.pid} on "
            f"{run.host!r} works on. Wait for it to end, or stop it first."
        )
    if restoring and arrival.removed_at is None:
        raise RegistryError(f"Arrival {arrival.id} is not removed; there is nothing to restore.")
    if not restoring and arrival.removed_at is not None:
        raise RegistryError(
            f"Arrival {arrival.id} is removed already; `streamlab restore {arrival.id}` brings it "
            "back, `streamlab gc` lets it go for good."
        )
    if restoring and arrival.status == "finished":
        _refuse_twin(connection, arrival)


def _refuse_twin(connection: Connection, arrival: ArrivalRecord) -> None:
    names = ("run_id", "task", "provider", "method", "status")
    choice = {name: getattr(arrival, name) for name in names}
    for other in arrivals.listed(connection, **choice, limit=None):
        if (other.seed, other.version) == (arrival.seed, arrival.version):
            raise RegistryError(
                f"Arrival {arrival.id} was made anew as arrival {other.id} since it was removed, "
                f"and there cannot be two of it. `streamlab rm {other.id}` first to have it back."
            )


def _gone(connection: Connection) -> list[_Gone]:
    tagged = exists().where(
        (TagRow.arrival_id == ArrivalRow.id)
        | (TagRow.run_id == ArrivalRow.run_id)
        | (TagRow.diff_id == ArrivalRow.diff_id)
    )
    query = (
        select(ArrivalRow.id, ArrivalRow.diff_id, ArrivalRow.removed_at)
        .where(ArrivalRow.removed_at.is_not(None), ~tagged)
        .order_by(ArrivalRow.id)
    )
    return [_Gone(row.id, row.diff_id, row.removed_at or 0.0) for row in connection.execute(query)]


def _needed(connection: Connection, met: Counter[int]) -> set[int]:
    """Return the artifacts that have other arrivals beside those met."""
    needed = set()
    for batch in in_pieces(list(met)):
        counts = (
            select(ArrivalRow.diff_id, func.count())
            .where(ArrivalRow.diff_id.in_(batch))
            .group_by(ArrivalRow.diff_id)
        )
        for number, count in connection.execute(counts):
            if number is not None and count > met[number]:
                needed.add(number)
    return needed


def _artifacts(
    connection: Connection, gone: Sequence[_Gone], numbers: Iterable[int]
) -> dict[int, Garbage]:
    removed_at: dict[int | None, float] = {}
    for one in gone:
        removed_at[one.diff_id] = max(one.removed_at, removed_at.get(one.diff_id, 0.0))
    found = {}
    for batch in in_pieces(list(numbers)):
        query = select(DiffRow.id, DiffRow.digest, DiffRow.file_bytes).where(DiffRow.id.in_(batch))
        for number, digest, file_bytes in connection.execute(query):
            found[number] = Garbage(
                digest=digest, file_bytes=file_bytes, removed_at=removed_at[number]
            )
    return found
