"""Stored artifacts as records: one row per digest, however many arrivals share it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, select

from streamlab.errors import AmbiguousReferenceError, NotInRegistryError, RegistryError
from streamlab.registry import bases
from streamlab.registry.bulk import insert_rows
from streamlab.registry.counts import pack_counts, unpack_counts
from streamlab.registry.numbers import following
from streamlab.registry.pieces import in_pieces
from streamlab.registry.records import DiffRecord, NewDiff
from streamlab.registry.tables import ArrivalRow, BaseRow, DiffRow

_COLUMNS = [
    *(getattr(DiffRow, f.name) for f in fields(DiffRecord) if f.name != "base_fingerprint"),
    BaseRow.fingerprint.label("base_fingerprint"),
]
_GIVEN = [f.name for f in fields(NewDiff) if f.name not in {"base_fingerprint", "tensor_counts"}]
_values = attrgetter(*_GIVEN)
_SHOWN = 10  # candidates of an ambiguous prefix
_DIGEST = re.compile("[0-9a-f]{64}")


def known(connection: Connection, new: Sequence[NewDiff]) -> dict[str, int]:
    """Check artifacts, and return the numbers of those that have a row, by digest.

    Raises RegistryError where a record contradicts itself, another one or what is recorded.
    """
    for diff in new:
        _check(diff)
    found = of_digests(connection, [diff.digest for diff in new])
    met: dict[str, NewDiff] = {record.digest: record for record in found}
    for diff in new:
        _refuse_another(met.setdefault(diff.digest, diff), diff)
    return {record.digest: record.id for record in found}


def add(connection: Connection, new: Sequence[NewDiff], *, at: float) -> dict[str, int]:
    """Add artifacts that have no row yet, each once; return their numbers by digest."""
    fingerprints = dict.fromkeys(diff.base_fingerprint for diff in new)
    base_ids = {name: bases.id_of(connection, name) for name in fingerprints}
    ids = following(connection, DiffRow, len(new))
    rows = [
        {
            **dict(zip(_GIVEN, _values(diff), strict=True)),
            "id": number,
            "base_id": base_ids[diff.base_fingerprint],
            "tensor_counts": pack_counts(diff.tensor_counts),
            "added_at": at,
        }
        for number, diff in zip(ids, new, strict=True)
    ]
    insert_rows(connection, DiffRow, rows)
    return {diff.digest: number for number, diff in zip(ids, new, strict=True)}


def get(connection: Connection, prefix: str) -> DiffRecord:
    """Return the artifact whose digest begins with `prefix`.

    Raises NotInRegistryError where there is none, or several, which are listed.
    """
    prefix = prefix.lower()
    if not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise NotInRegistryError(
            f"{prefix!r} is no beginning of a digest; give up to 64 hexadecimal digits."
        )
    # "g" follows every hexadecimal digit: a range the index answers, which LIKE need not be.
    begins = DiffRow.digest.between(prefix, prefix + "g")
    rows = connection.execute(
        _query().where(begins).order_by(DiffRow.digest).limit(_SHOWN + 1)
    ).all()
    if not rows:
        raise NotInRegistryError(
            f"The registry holds no artifact whose digest begins with {prefix!r}. "
            "List what there is with `streamlab ls`."
        )
    if len(rows) > 1:
        listed = ", ".join(row.digest[: max(len(prefix) + 4, 12)] for row in rows[:_SHOWN])
        raise AmbiguousReferenceError(
            f"Several digests begin with {prefix!r}: {listed}"
            f"{' and others' if len(rows) > _SHOWN else ''}. Give more digits."
        )
    return _record(rows[0])


def listed(
    connection: Connection, *, run_id: int | None, limit: int | None
) -> tuple[DiffRecord, ...]:
    """Return the first `limit` artifacts in the order they were added, of one run or of all."""
    rows = connection.execute(query(run_id=run_id).limit(limit))
    return tuple(_record(row) for row in rows)


def of_digests(connection: Connection, digests: Collection[str]) -> tuple[DiffRecord, ...]:
    """Return the artifacts that have these digests, in no order; what is not there is left out."""
    return tuple(
        _record(row)
        for piece in in_pieces(sorted(set(digests)))
        for row in connection.execute(_query().where(DiffRow.digest.in_(piece)))
    )


def query(*, run_id: int | None) -> Select[Any]:
    """Return the query of the artifacts of one run, or of all, in the order of adding.

    Those whose arrivals were all removed are left out.
    """
    found = _query().order_by(DiffRow.id)
    if run_id is None:
        return found.where(DiffRow.id.not_in(_abandoned()))
    stored = select(ArrivalRow.diff_id).where(
        ArrivalRow.run_id == run_id, ArrivalRow.removed_at.is_(None)
    )
    return found.where(DiffRow.id.in_(stored))


def _abandoned() -> Select[Any]:
    # From the few that were removed, so that the many need no look at their arrivals.
    other = ArrivalRow.__table__.alias("other").c
    kept = exists().where(other.diff_id == ArrivalRow.diff_id, other.removed_at.is_(None))
    return select(ArrivalRow.diff_id).where(
        ArrivalRow.removed_at.is_not(None), ArrivalRow.diff_id.is_not(None), ~kept
    )


def _query() -> Select[Any]:
    return select(*_COLUMNS).join(BaseRow, BaseRow.id == DiffRow.base_id, isouter=True)


def _record(row: Row[Any]) -> DiffRecord:
    values = dict(row._mapping)
    values["tensor_counts"] = unpack_counts(values["tensor_counts"])
    return DiffRecord(**values)


def _check(diff: NewDiff) -> None:
    if not _DIGEST.fullmatch(diff.digest):
        raise RegistryError(
            f"{diff.digest!r} is no digest: give all 64 hexadecimal digits, in lower case."
        )
    parts = (diff.positions_bytes, diff.values_bytes, diff.head_bytes, diff.metadata_bytes)
    if sum(parts) != diff.file_bytes:
        raise RegistryError(
            f"The parts of the artifact {diff.digest} have {sum(parts)} bytes, but `file_bytes` "
            f"says {diff.file_bytes}; they must add up."
        )
    # A baseline's checkpoint keeps no count per tensor.
    if (diff.kind == "diff" or diff.tensor_counts) and sum(diff.tensor_counts) != diff.n_entries:
        raise RegistryError(
            f"The per-tensor counts of the artifact {diff.digest} add up to "
            f"{sum(diff.tensor_counts)}, but `n_entries` says {diff.n_entries}."
        )


def _refuse_another(known: NewDiff, diff: NewDiff) -> None:
    if known is diff:
        return
    names = [f.name for f in fields(NewDiff) if getattr(known, f.name) != getattr(diff, f.name)]
    if names:
        raise RegistryError(
            f"The artifact {diff.digest} is recorded already, with another `{names[0]}`: "
            f"{getattr(known, names[0])!r}, given {getattr(diff, names[0])!r}. "
            "The same bytes must have the same facts."
        )
