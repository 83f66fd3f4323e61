"""Finished arrivals, one or many at once: an artifact, a row and scores each, all of it or none.

Many are checked and added by a handful of statements, whose number does not grow with theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.exc import IntegrityError

from streamlab.errors import RegistryError
from streamlab.registry import arrivals, diffs, events, runs, scores, tally
from streamlab.registry.bulk import insert_rows
from streamlab.registry.numbers import following
from streamlab.registry.records import FinishedArrival, NewArrival
from streamlab.registry.tables import ArrivalRow

# What no two finished arrivals share; the columns of the index that forbids it, in its order.
_SAME = ("run_id", "seed", "provider_id", "task_id", "version", "method")
_KEY = [getattr(ArrivalRow, name) for name in _SAME]

Key = tuple[Any, ...]


def add(
    connection: Connection,
    new: Sequence[FinishedArrival],
    *,
    at: float,
    event: str = "arrival-finished",
) -> list[int]:
    """Add finished arrivals with their artifacts and scores; return their numbers, in order.

    `event`: what the log calls it.
    Raises RegistryError where one is there already or given twice, or where a diff is on another
    base than its run.
    """
    _refuse_other_bases(connection, new, at=at)
    given = [finished.arrival for finished in new]
    rows = arrivals.rows_of(connection, given)
    keys = [tuple(row[name] for name in _SAME) for row in rows]
    _refuse_two_alike(given, keys)
    known = diffs.known(connection, [finished.diff for finished in new])
    fresh = {whole.diff.digest: whole.diff for whole in new if whole.diff.digest not in known}
    stored = known | diffs.add(connection, list(fresh.values()), at=at)
    numbers = following(connection, ArrivalRow, len(new))
    for number, row, finished in zip(numbers, rows, new, strict=True):
        row |= {"id": number, "status": "finished", "diff_id": stored[finished.diff.digest]}
    artifacts = {stored[whole.diff.digest]: whole.diff for whole in new}
    tally.add(connection, rows, artifacts, known=known.values())
    _insert(connection, given, keys, rows)
    numbered = dict(zip(numbers, new, strict=True))
    scores.add_first(connection, {n: whole.scores for n, whole in numbered.items()}, at=at)
    lines = [
        (str(number), f"{whole.diff.file_bytes} bytes", whole.diff.digest)
        for number, whole in numbered.items()
    ]
    events.append_all(connection, event, lines, at=at)
    return list(numbers)


def twin(key: Key) -> Select[Any]:
    """Return the query of the finished arrival that a key belongs to."""
    # Written out, not handed over: an index of the finished ones only is taken for no less.
    finished = ArrivalRow.status == bindparam(None, "finished", literal_execute=True)
    same = (column == value for column, value in zip(_KEY, key, strict=True))
    return select(ArrivalRow.id).where(finished, ArrivalRow.removed_at.is_(None), *same)


def _refuse_other_bases(
    connection: Connection, new: Sequence[FinishedArrival], *, at: float
) -> None:
    numbers = dict.fromkeys(finished.arrival.run_id for finished in new)
    known_runs = {number: runs.get(connection, number, now=at) for number in numbers}
    for finished in new:
        run, diff = known_runs[finished.arrival.run_id], finished.diff
        if diff.base_fingerprint != run.base_fingerprint:
            raise RegistryError(
                f"The artifact {diff.digest} is on the base {diff.base_fingerprint!r}, but the run "
                f"`{run.name}` is on {run.base_fingerprint!r}; an arrival stays on its run's base."
            )


def _refuse_two_alike(new: Sequence[NewArrival], keys: Sequence[Key]) -> None:
    met = set()
    for arrival, key in zip(new, keys, strict=True):
        if key in met:
            raise _there(arrival, "is given twice for this run; give it once")
        met.add(key)


def _insert(
    connection: Connection,
    new: Sequence[NewArrival],
    keys: Sequence[Key],
    rows: Sequence[dict[str, Any]],
) -> None:
    try:
        with connection.begin_nested():
            insert_rows(connection, ArrivalRow, rows)
    except IntegrityError:
        # The index has refused a twin, and asking for each beforehand would take long.
        for arrival, key in zip(new, keys, strict=True):
            number = connection.execute(twin(key)).scalar()
            if number is not None:
                done = f"is finished already in this run, as arrival {number}"
                raise _there(arrival, f"{done}; skip it, or start a new run") from None
        raise


def _there(arrival: NewArrival, how: str) -> RegistryError:
    return RegistryError(
        f"Task `{arrival.task}` version {arrival.version} of provider `{arrival.provider}` by "
        f"`{arrival.method}` with seed {arrival.seed} {how}."
    )
