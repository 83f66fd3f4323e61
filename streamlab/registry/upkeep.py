"""The part of the registry that looks after a home: checking it, tidying it, naming what is in it.

Every change writes an event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from streamlab.registry import (
    audits,
    events,
    removal,
    revocation,
    runs,
    sqlite,
    tags,
    tally,
    versions,
)
from streamlab.registry.audits import Damage, StoredFacts
from streamlab.registry.queries import Queries
from streamlab.registry.records import ArrivalRecord, TagKind, TagRecord
from streamlab.registry.removal import Garbage, Removed

Result = TypeVar("Result")


class Upkeep(Queries):
    """What is asked of a registry, and done to it, to look after what it remembers."""

    def damage(self) -> Damage:
        """Look for damage of the database itself; all of it is read."""
        return self._database.read(audits.damage)

    def miscounted(self) -> tuple[str, ...]:
        """Count every arrival anew, and say which totals are wrong; all arrivals are read."""
        return self._database.read(tally.miscounted)

    def stored(self, *, after: int = 0, limit: int) -> tuple[StoredFacts, ...]:
        """Return what the next `limit` rows past the number `after` say of stored files."""
        return self._database.read(lambda c: audits.stored(c, after=after, limit=limit))

    def add_tag(self, name: str, kind: TagKind, thing: str | int) -> TagRecord:
        """Give a name to a run, an arrival or an artifact; `gc` then leaves it alone.

        Raises UsageError for a name that could be taken for something else, RegistryError where
        another thing of this kind has it.
        """

        def work(connection: Connection, now: float) -> TagRecord:
            tag = tags.add(connection, name, kind, thing, at=now)
            return _logged_tag(connection, "tag-added", tag, now=now)

        return self._write(work)

    def remove_tag(self, name: str, kind: TagKind | None = None) -> TagRecord:
        """Take a tag off, and return what it was; `kind` where several things have the name."""

        def work(connection: Connection, now: float) -> TagRecord:
            tag = tags.remove(connection, name, kind)
            return _logged_tag(connection, "tag-removed", tag, now=now)

        return self._write(work)

    def tags(self, name: str | None = None) -> tuple[TagRecord, ...]:
        """Return every tag by name and kind, or those of one name."""
        return self._database.read(lambda connection: tags.every(connection, name=name))

    def disk_bytes(self) -> int:
        """Return the bytes that the registry itself takes on the disk."""
        return self._database.read(sqlite.disk_bytes)

    def task_names(self) -> tuple[str, ...]:
        """Return the name of every task, also of those whose arrivals were all removed."""
        return self._database.read(audits.task_names)

    def provider_names(self) -> tuple[str, ...]:
        """Return the name of every provider, also of those whose arrivals were all removed."""
        return self._database.read(audits.provider_names)

    def digests(self) -> frozenset[str]:
        """Return the digest of every artifact that has a row."""
        return self._database.read(audits.digests)

    def n_artifacts(self) -> int:
        """Return the number of stored artifacts."""
        return self._database.read(audits.n_artifacts)

    def remove_arrivals(self, numbers: Sequence[int]) -> tuple[ArrivalRecord, ...]:
        """Leave arrivals out of every listing; all of them, or none where one cannot be.

        Raises RegistryError for one that is removed already or whose run is being worked on.
        """
        return self._write(lambda c, now: tuple(removal.remove(c, numbers, now=now)))

    def restore_arrivals(self, numbers: Sequence[int]) -> tuple[ArrivalRecord, ...]:
        """Bring removed arrivals back; all of them, or none where one cannot be.

        Raises RegistryError for one that is not removed, that was made anew since, or whose run
        is being worked on.
        """
        return self._write(lambda c, now: tuple(removal.restore(c, numbers, now=now)))

    def roll_back(self, run: str | int, task: str, version: int) -> tuple[ArrivalRecord, ...]:
        """Take a version of a task in a run back into use; return the later ones, now removed.

        Raises RegistryError while the run is being worked on.
        """

        def work(connection: Connection, now: float) -> tuple[ArrivalRecord, ...]:
            run_id = runs.id_of(connection, run)
            return tuple(versions.roll_back(connection, run_id, task, version, now=now))

        return self._write(work)

    def revoke(self, provider: str, numbers: Collection[int]) -> tuple[Garbage, ...]:
        """Delete the rows of all that came from a provider, in one step, and log each.

        `numbers` are its arrivals as they were listed. Returns the artifacts whose files are to
        be deleted, which no other provider's arrival has. Raises RegistryError where other
        arrivals are its own by now, a run is being worked on, or a tag is on what would go.
        """
        return self._write(lambda c, now: revocation.revoke(c, provider, numbers, now=now))

    def removed(self, *, but: Collection[str] = ()) -> Removed:
        """Return what may be forgotten, without the artifacts `but` and their arrivals."""
        return self._database.read(lambda connection: removal.removed(connection, but=but))

    def forget(self, numbers: Collection[int]) -> tuple[Garbage, ...]:
        """Delete the rows of removed arrivals, and of artifacts that nothing has then.

        Those of `numbers` that came back meanwhile, or got a tag, stay. Returns the artifacts
        whose files are to be deleted.
        """
        return self._write(lambda c, now: removal.forget(c, numbers, now=now))

    def release(self, digests: Sequence[str], delete: Callable[[str], str | None]) -> None:
        """Let files go that have no row, while nobody can add one, and log each.

        `delete` takes a digest and returns what is to be said of it in the log, None where the
        file stays. Those that have a row by now are left alone.
        """

        def work(connection: Connection, now: float) -> None:
            known = audits.known(connection, digests)
            for digest in digests:
                message = None if digest in known else delete(digest)
                if message is not None:
                    events.append(
                        connection, "file-deleted", digest, message, at=now, digest=digest
                    )

        self._write(work)

    def _write(self, work: Callable[[Connection, float], Result]) -> Result:
        now = self._clock()
        return self._database.write(lambda connection: work(connection, now))


def _logged_tag(connection: Connection, kind: str, tag: TagRecord, *, now: float) -> TagRecord:
    message = f"{tag.kind} {tag.target}"
    events.append(connection, kind, tag.name, message, at=now, digest=tag.digest)
    return tag
