"""What keeping every task costs: one base and a diff a task, against one checkpoint a task.

    ours(N) = base file + sum of the first N artifacts' files
    full(N) = sum of the first N tasks' full checkpoints

Full finetuning keeps N checkpoints and needs no base, so full(0) = 0 while ours(0) = the base.
Every byte counted is a file's: headers, positions, values and heads. A file that two arrivals
share counts once for each, as a checkpoint does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamlab.errors import RegistryError
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord, RunRecord
from streamlab.registry.registry import Registry


@dataclass(frozen=True)
class StorageRow:
    """The storage after `n_tasks` arrivals; the last of them is `task`, None for the base alone."""

    n_tasks: int
    task: str | None
    provider: str | None
    diff_bytes: int  # the arrival's file
    head_bytes: int  # of which the head
    ours_bytes: int
    full_bytes: int

    @property
    def ratio(self) -> float:
        """Return how many times our storage full finetuning takes; 0 for the base alone."""
        return self.full_bytes / self.ours_bytes


@dataclass(frozen=True)
class StorageSeries:
    """One seed's stream of one run, with what a figure has to say about it."""

    run: str
    seed: int
    method: str
    base: BaseRecord
    densities: tuple[float, ...]  # of each artifact, in the order of arrival
    n_generated: int  # arrivals whose rows were generated
    rows: tuple[StorageRow, ...]  # n_tasks = 0, 1, ..., N


def storage_rows(
    base: BaseRecord, arrivals: Iterable[ArrivalRecord], diffs: Iterable[DiffRecord]
) -> list[StorageRow]:
    """Add up bytes after 0, 1, ..., N arrivals, in the order of arrival.

    `arrivals` are those of one seed and one method; failed ones keep nothing and are left out.
    Raises RegistryError where an arrival's artifact is not among `diffs`.
    """
    known = {diff.digest: diff for diff in diffs}
    rows = [StorageRow(0, None, None, 0, 0, base.file_bytes, 0)]
    finished = [arrival for arrival in arrivals if arrival.status == "finished"]
    for arrival in sorted(finished, key=lambda a: (a.sequence, a.id)):
        diff = known.get(arrival.digest or "")
        if diff is None:
            raise RegistryError(
                f"The artifact {arrival.digest} of arrival {arrival.id} has no record. "
                "The registry is damaged; restore it from a copy."
            )
        last = rows[-1]
        rows.append(
            StorageRow(
                n_tasks=last.n_tasks + 1,
                task=arrival.task,
                provider=arrival.provider,
                diff_bytes=diff.file_bytes,
                head_bytes=diff.head_bytes,
                ours_bytes=last.ours_bytes + diff.file_bytes,
                full_bytes=last.full_bytes + diff.full_checkpoint_bytes,
            )
        )
    return rows


def own_method(run: RunRecord) -> str:
    """Return the name of the scenario's own method, which its rivals are compared with."""
    return str(run.scenario["defaults"]["method"]["name"])


def own_seeds(run: RunRecord) -> Sequence[int]:
    """Return the scenario's seeds, as written."""
    return [int(seed) for seed in run.scenario["seeds"]]


def storage_series(registry: Registry, run: str) -> StorageSeries:
    """Read the storage of one run: its first seed's stream, by the scenario's own method.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    record = registry.run(run)
    base = registry.base(record.base_fingerprint)
    seed, method = own_seeds(record)[0], own_method(record)
    arrivals = registry.arrivals(run=record.id, method=method, status="finished", seed=seed)
    if not arrivals:
        raise RegistryError(
            f"In the run `{record.name}` no arrival with seed {seed} by `{method}` has finished, "
            "so there is no storage to show. Let the run go on, or name another one with `--run`."
        )
    found = registry.diffs_of({arrival.digest for arrival in arrivals if arrival.digest})
    diffs = {diff.digest: diff for diff in found}
    return StorageSeries(
        run=record.name,
        seed=seed,
        method=method,
        base=base,
        densities=tuple(diffs[a.digest].density for a in arrivals if a.digest in diffs),
        n_generated=sum(arrival.source == "generated" for arrival in arrivals),
        rows=tuple(storage_rows(base, arrivals, diffs.values())),
    )
