"""What arrivals add to the totals: added as they come in, and counted anew to see that it is right.

A batch of new ones is added up here, by a handful of statements. Where one is removed, restored or
deleted later, which is rare, the database itself follows: see `KEEP_TOTALS` in sqlite.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    update,
)

from streamlab.registry.pieces import in_pieces
from streamlab.registry.records import Grouping, NewDiff, Parts
from streamlab.registry.tables import ArrivalRow, DiffRow, TotalRow

_GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
_COLUMNS: dict[Grouping, str] = {
    "run": "run_id",
    "task": "task_id",
    "provider": "provider_id",
    "method": "method",
}
_PARTS = [field.name for field in fields(Parts)]
_AMOUNTS = ("n_arrivals", "n_files", *_PARTS, *(f"stored_{part}" for part in _PARTS))
_NO_SIZES = (0,) * len(_PARTS)
_sizes = attrgetter(*_PARTS)

Key = tuple[Grouping, str, str]  # what is grouped by, its number or name, the kind of artifact
Sizes = tuple[int, ...]  # in the order of `_PARTS`
Amounts = tuple[int, ...]  # in the order of `_AMOUNTS`
_Held = set[tuple[Grouping, str, int]]  # a group, and an artifact that it has


def add(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    artifacts: Mapping[int, NewDiff],
    *,
    known: Collection[int] = (),
) -> None:
    """Add arrivals to their totals, before they are rows themselves.

    `rows`: as they are about to be stored. `artifacts`: theirs, by number. `known`: those of them
    that other arrivals may have already.
    """
    held = _held(connection, known)
    sized: dict[int | None, tuple[str, Sizes]] = {None: ("failed", _NO_SIZES)}
    sized |= {number: (diff.kind, _sizes(diff)) for number, diff in artifacts.items()}
    numbers = [row.get("diff_id") for row in rows]
    gains: dict[Key, Amounts] = {}
    for grouping in _GROUPINGS:
        logical, stored = defaultdict(list), defaultdict(list)
        for key, number in zip(_keys(rows, grouping), numbers, strict=True):
            kind, sizes = sized[number]
            logical[key, kind].append(sizes)
            # An artifact is stored with the first arrival of a group that has it.
            if number is not None and (grouping, key, number) not in held:
                held.add((grouping, key, number))
                stored[key, kind].append(sizes)
        for (key, kind), own in logical.items():
            files = stored[key, kind]
            gains[grouping, key, kind] = (len(own), len(files), *_sums(own), *_sums(files))
    _write(connection, gains)


def miscounted(connection: Connection) -> tuple[str, ...]:
    """Count every arrival anew, and say of which totals this gives another number."""
    columns = [getattr(TotalRow, name) for name in _AMOUNTS]
    kept = {
        (row.grouping, row.key, row.kind): tuple(row[3:])
        for row in connection.execute(
            select(TotalRow.grouping, TotalRow.key, TotalRow.kind, *columns)
        )
    }
    counted = {
        (grouping, row.key, row.kind): tuple(row[2:])
        for grouping in _GROUPINGS
        for row in connection.execute(_count(grouping))
    }
    nothing = (0, 0, *_NO_SIZES, *_NO_SIZES)  # where all arrivals were removed, that much is left
    found = ((key, kept.get(key, nothing), counted.get(key, nothing)) for key in kept | counted)
    return tuple(_told(key, *amounts) for key, *amounts in found if amounts[0] != amounts[1])


def _keys(rows: Sequence[Mapping[str, Any]], grouping: Grouping) -> list[str]:
    if grouping == "all":
        return [""] * len(rows)
    return [str(row[_COLUMNS[grouping]]) for row in rows]


def _sums(sizes: Sequence[Sizes]) -> Sizes:
    return tuple(map(sum, zip(*sizes, strict=True))) or _NO_SIZES


def _held(connection: Connection, known: Collection[int]) -> _Held:
    columns = [getattr(ArrivalRow, name) for name in _COLUMNS.values()]
    found: _Held = set()
    for piece in in_pieces(sorted(known)):
        query = select(ArrivalRow.diff_id, *columns).distinct()
        query = query.where(ArrivalRow.diff_id.in_(piece), ArrivalRow.removed_at.is_(None))
        rows = [row._asdict() for row in connection.execute(query)]
        for by in _GROUPINGS:
            pairs = zip(_keys(rows, by), rows, strict=True)
            found |= {(by, key, row["diff_id"]) for key, row in pairs}
    return found


def _write(connection: Connection, gains: Mapping[Key, Amounts]) -> None:
    numbers: dict[Key, int] = {}
    columns = (TotalRow.id, TotalRow.grouping, TotalRow.key, TotalRow.kind)
    for piece in in_pieces(list(dict.fromkeys(key for _, key, _ in gains))):
        found = select(*columns).where(TotalRow.grouping.in_(_GROUPINGS), TotalRow.key.in_(piece))
        for row in connection.execute(found):
            numbers[row.grouping, row.key, row.kind] = row.id
    old = [
        {"number": numbers[key], **dict(zip(_GAINS, gain, strict=True))}
        for key, gain in gains.items()
        if key in numbers
    ]
    new = [
        dict(zip(("grouping", "key", "kind", *_AMOUNTS), (*key, *gain), strict=True))
        for key, gain in gains.items()
        if key not in numbers
    ]
    if old:
        connection.execute(_GROW, old)
    if new:
        connection.execute(insert(TotalRow), new)


_GAINS = [f"gain_{name}" for name in _AMOUNTS]
_GROW = (
    update(TotalRow)
    .where(TotalRow.id == bindparam("number"))
    .values(
        {
            name: getattr(TotalRow, name) + bindparam(gain)
            for name, gain in zip(_AMOUNTS, _GAINS, strict=True)
        }
    )
)


def _count(grouping: Grouping) -> Select[Any]:
    """Return the query of what the totals by one thing must be."""
    own: ColumnElement[Any] = (
        literal("") if grouping == "all" else getattr(ArrivalRow, _COLUMNS[grouping])
    )
    met = (
        select(own.label("key"), ArrivalRow.diff_id, func.count().label("n"))
        .where(ArrivalRow.removed_at.is_(None))
        .group_by(own, ArrivalRow.diff_id)
        .subquery()
    )
    sizes = [getattr(DiffRow, part) for part in _PARTS]
    kind = case((met.c.diff_id.is_(None), "failed"), else_=DiffRow.kind)
    return (
        select(
            cast(met.c.key, String).label("key"),
            kind.label("kind"),
            func.sum(met.c.n),
            func.count(met.c.diff_id),
            *(func.coalesce(func.sum(met.c.n * size), 0) for size in sizes),
            *(func.coalesce(func.sum(size), 0) for size in sizes),
        )
        .select_from(met)
        .join(DiffRow, DiffRow.id == met.c.diff_id, isouter=True)
        .group_by(met.c.key, kind)
    )


def _told(key: Key, kept: Amounts, counted: Amounts) -> str:
    grouping, name, kind = key
    pairs = zip(_AMOUNTS, kept, counted, strict=True)
    wrong = (f"`{what}` is {said}, counted {found}" for what, said, found in pairs if said != found)
    whose = "" if grouping == "all" else f" by {grouping} of {name!r}"
    return f"The totals{whose}, {kind}: {'; '.join(wrong)}."
