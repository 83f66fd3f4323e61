"""What the lab remembers of what it let in during one run, so that it can judge the next."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.home.store import ArtifactStore
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.registry import Registry
from streamlab.stream.admission import Known
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission


@dataclass(frozen=True)
class _Entry:
    record: ArrivalRecord
    n_bytes: int


class Ledger:
    """The diffs that were admitted, in the order of virtual time; filled anew from the rows."""

    def __init__(self, registry: Registry, run: str, method: str) -> None:
        """Read the rows of `method`, the scenario's own: baselines are not admitted."""
        self._entries = [
            _Entry(record, registry.diff(record.digest).file_bytes)
            for record in sorted(
                registry.arrivals(run=run, method=method, status="finished"),
                key=lambda record: (record.ended_us or 0, record.sequence),
            )
            if record.digest is not None and "content" in record.details
        ]

    def add(self, record: ArrivalRecord, n_bytes: int) -> None:
        """Note a diff that was admitted and has its row."""
        self._entries.append(_Entry(record, n_bytes))

    def known(self, arrival: Arrival, public_key: str | None) -> Known:
        """Return what is known when a submission for `arrival` comes."""
        ours = [entry for entry in self._entries if entry.record.seed == arrival.seed]
        own = [entry for entry in ours if entry.record.provider == arrival.provider]
        return Known(
            contents={e.record.details["content"]: f"`{e.record.provider}`" for e in ours},
            n_bytes=sum(entry.n_bytes for entry in own),
            n_tasks=len(own),
            public_key=public_key,
        )

    def submissions(
        self, seed: int, store: ArtifactStore, *, until_us: int
    ) -> tuple[Submission, ...]:
        """Return what was admitted under a scenario seed as it was submitted, oldest first.

        `until_us`: the virtual time by which it must have ended, since a run that is resumed
        knows of what ends later too.
        """
        return tuple(
            _submission(record, store)
            for record in (entry.record for entry in self._entries)
            if record.seed == seed and (record.ended_us or 0) <= until_us
        )


def _submission(record: ArrivalRecord, store: ArtifactStore) -> Submission:
    signature = record.details.get("signature")
    return Submission(
        provider=record.provider,
        task=record.task,
        version=record.version,
        kind="diff",
        data=store.get(str(record.digest)),
        declared_score=record.declared_score,
        signature=None if signature is None else bytes.fromhex(signature),
    )
