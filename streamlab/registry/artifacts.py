"""Stored artifacts: one row per digest, however many arrivals share it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Double, Row, Select, case, cast, exists, func, select

from streamlab.errors import AmbiguousReferenceError, NotInRegistryError, RegistryError
from streamlab.registry.conditions import Columns, Condition
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import DiffRecord, NewDiff
from streamlab.registry.tables import (
    ArrivalRow,
    BaseRow,
    DiffRow,
    TagRow,
    columns_of,
    tags_of,
    values_of,
)
from streamlab.registry.validation import MAX_TENSORS, build, check_new

_SELECTED = columns_of(DiffRecord, DiffRow, base_fingerprint=BaseRow.fingerprint)
_values = values_of(NewDiff, but=("base_fingerprint", "tensor_counts"))
_SHOWN = 10  # candidates of an ambiguous prefix

# NULL where there is no artifact.
DENSITY = case(
    (DiffRow.n_gated > 0, cast(DiffRow.n_entries, Double) / DiffRow.n_gated),
    (DiffRow.n_gated == 0, 0.0),
)
_COLUMNS: Columns = {
    **_SELECTED,
    "density": DENSITY,
    "base": BaseRow.fingerprint,
    "tags": tags_of(TagRow.diff_id, DiffRow.id),
}


def pack_counts(counts: Sequence[int]) -> bytes:
    """Pack per-tensor counts, each in [0, 2**32), as deflated little-endian uint32.

    As rows they would be a hundred million at a million arrivals. Raises RegistryError.
    """
    try:
        # The other levels compress no better.
        return zlib.compress(struct.pack(f"<{len(counts)}I", *counts), level=1)
    except struct.error as error:
        raise RegistryError(
            f"Per-tensor counts must be whole numbers in [0, 2**32), got {[*counts]!r}."
        ) from error


def unpack_counts(blob: bytes) -> tuple[int, ...]:
    """Return the counts that `pack_counts` packed. Raises RegistryError for a damaged blob."""
    try:
        stream = zlib.decompressobj()
        plain = stream.decompress(blob, 4 * MAX_TENSORS)
        if not stream.eof:
            raise zlib.error("incomplete, or too many")
        return struct.unpack(f"<{len(plain) // 4}I", plain)
    except (zlib.error, struct.error, TypeError) as error:
        raise RegistryError(
            f"The per-tensor counts of a stored diff are damaged: {error}. "
            "Restore the registry from a copy."
        ) from error


class Artifacts(Repository):
    """Artifacts by their digest: diffs, and the checkpoints and adapters of baselines."""

    @reads
    def get(self, prefix: str) -> DiffRecord:
        """Return the artifact of a digest, or of its first digits where only one has these.

        Raises NotInRegistryError where there is none, or several, which are listed.
        """
        prefix = prefix.lower()
        if not re.fullmatch("[0-9a-f]{1,64}", prefix):
            raise NotInRegistryError(
                f"{prefix!r} does not begin a digest; give up to 64 hexadecimal digits."
            )
        # "g" follows every hexadecimal digit: a range the index answers, which LIKE need not be.
        begins = DiffRow.digest.between(prefix, prefix + "g")
        found = query_diffs().where(begins).order_by(DiffRow.digest).limit(_SHOWN + 1)
        rows = self._connection.execute(found).all()
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
        return self._record("diffs", rows[0], read_diff)

    @reads
    def list(
        self,
        *,
        run: str | int | None = None,
        where: Condition | None = None,
        limit: int | None = None,
    ) -> tuple[DiffRecord, ...]:
        """Return the first `limit` artifacts of a run, or of all, in the order of adding.

        Each artifact once, however many arrivals share it; those whose arrivals were all removed
        are left out.
        """
        query = artifacts_of(None if run is None else self._registry.runs.id_of(run))
        return self._records("diffs", self._listed(query, where, _COLUMNS, limit), read_diff)

    @reads
    def with_digests(self, digests: Iterable[str]) -> tuple[DiffRecord, ...]:
        """Return the artifacts of whole digests, in no order; unknown ones are left out."""
        rows = self._among(query_diffs(), DiffRow.digest, digests)
        return self._records("diffs", rows, read_diff)

    @writes
    def lock(self, ids: Collection[int]) -> dict[int, DiffRecord]:
        """Return artifacts by their ids, and let no other transaction count their arrivals."""
        query = query_diffs().order_by(DiffRow.id).with_for_update(of=DiffRow.__table__)
        found = self._records("diffs", self._among(query, DiffRow.id, ids), read_diff)
        return {diff.id: diff for diff in found}

    @reads
    def digests(self) -> frozenset[str]:
        """Return the digest of every artifact that has a row."""
        return frozenset(self._connection.execute(select(DiffRow.digest)).scalars())

    @reads
    def count(self) -> int:
        """Return the number of artifacts."""
        return self._connection.execute(select(func.count()).select_from(DiffRow)).scalar_one()

    @writes
    def add(self, new: Sequence[NewDiff]) -> tuple[dict[str, int], frozenset[int]]:
        """Add artifacts, each digest once; return ids by digest, and those that were there already.

        Raises RegistryError where a record contradicts itself, another one or what is recorded.
        """
        distinct: dict[str, NewDiff] = {}
        for diff in new:
            _check(diff)
            _refuse_different(distinct.setdefault(diff.digest, diff), diff)
        fingerprints = {diff.base_fingerprint for diff in new}
        base_ids = {name: self._registry.bases.id_of(name) for name in sorted(fingerprints)}
        table = DiffRow.__table__
        known = self._known(distinct.values())
        fresh = [diff for digest, diff in distinct.items() if digest not in known]
        ids = self._backend.reserve_ids(self._connection, table, len(fresh)) if fresh else range(0)
        rows = [
            {
                **_values(diff),
                "id": number,
                "base_id": base_ids[diff.base_fingerprint],
                "tensor_counts": pack_counts(diff.tensor_counts),
                "added_at": self._now,
            }
            for number, diff in zip(ids, fresh, strict=True)
        ]
        n_added = self._backend.insert_new(self._connection, table, rows, "digest")
        added = {diff.digest: number for number, diff in zip(ids, fresh, strict=True)}
        if n_added < len(fresh):  # another transaction added some, under ids of its own
            found = self._known(fresh)
            known |= {digest: number for digest, number in found.items() if number != added[digest]}
        return added | known, frozenset(known.values())

    def _known(self, new: Collection[NewDiff]) -> dict[str, int]:
        """Return the ids of those that are recorded, with the same facts, by digest."""
        given = {diff.digest: diff for diff in new}
        found = self.with_digests(given)
        for record in found:
            _refuse_different(record, given[record.digest])
        return {record.digest: record.id for record in found}


def artifacts_of(run_id: int | None) -> Select[Any]:
    """Return the query of the artifacts of one run, or of all, in the order of adding."""
    query = query_diffs().order_by(DiffRow.id)
    if run_id is None:
        # From the few that were removed, so that the many need no look at their arrivals.
        other = ArrivalRow.__table__.alias("other").c
        kept = exists().where(other.diff_id == ArrivalRow.diff_id, other.removed_at.is_(None))
        abandoned = select(ArrivalRow.diff_id).where(
            ArrivalRow.removed_at.is_not(None), ArrivalRow.diff_id.is_not(None), ~kept
        )
        return query.where(DiffRow.id.not_in(abandoned))
    stored = select(ArrivalRow.diff_id).where(
        ArrivalRow.run_id == run_id, ArrivalRow.removed_at.is_(None)
    )
    return query.where(DiffRow.id.in_(stored))


def query_diffs() -> Select[Any]:
    """Return the query of all artifacts, with their bases."""
    return select(*_SELECTED.values()).join(BaseRow, BaseRow.id == DiffRow.base_id, isouter=True)


def read_diff(row: Row[Any]) -> DiffRecord:
    """Return the record of an artifact. Raises RegistryError where the row is damaged."""
    return build(DiffRecord, {**row._mapping, "tensor_counts": unpack_counts(row.tensor_counts)})


def _check(diff: NewDiff) -> None:
    check_new(diff)
    parts = (diff.positions_bytes, diff.values_bytes, diff.head_bytes, diff.metadata_bytes)
    if sum(parts) != diff.file_bytes:
        raise RegistryError(
            f"The parts of the artifact {diff.digest} have {sum(parts)} bytes, but `file_bytes` "
            f"says {diff.file_bytes}; they must add up."
        )
    # A baseline's checkpoint has no count per tensor.
    if (diff.kind == "diff" or diff.tensor_counts) and sum(diff.tensor_counts) != diff.n_entries:
        raise RegistryError(
            f"The per-tensor counts of the artifact {diff.digest} add up to "
            f"{sum(diff.tensor_counts)}, but `n_entries` says {diff.n_entries}."
        )


def _refuse_different(known: NewDiff, diff: NewDiff) -> None:
    if known is diff:
        return
    names = [f.name for f in fields(NewDiff) if getattr(known, f.name) != getattr(diff, f.name)]
    if names:
        raise RegistryError(
            f"The artifact {diff.digest} is recorded already, with another `{names[0]}`: "
            f"{getattr(known, names[0])!r}, given {getattr(diff, names[0])!r}. "
            "The same bytes must have the same facts."
        )
