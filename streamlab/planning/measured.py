"""What a run measured: read once from the registry, and all that planning goes by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamlab.errors import RegistryError, UsageError
from streamlab.planning.storage_model import (
    BLOCK_BYTES,
    RegistryBytes,
    StorageModel,
    TaskBytes,
    task_bytes,
)
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord, PrimaryStream
from streamlab.registry.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run's own stream: its first seed, by the scenario's own method."""

    run: str
    seed: int
    method: str
    base: BaseRecord
    tasks: tuple[TaskBytes, ...]  # in the order of arrival, at least one
    names: tuple[str, ...]  # of the tasks
    training_seconds: tuple[float, ...]
    adapter_files: tuple[int, ...]  # bytes of each LoRA adapter that a baseline of the run stored
    registry: RegistryBytes | None

    def first(self, n_tasks: int) -> Measured:
        """Forget all tasks but the first. Raises UsageError where there are not that many."""
        if not 1 <= n_tasks <= len(self.tasks):
            raise UsageError(
                f"The run `{self.run}` has {len(self.tasks)} finished tasks by `{self.method}`, "
                f"so its first {n_tasks} cannot be taken. Give `--first` a number from 1 to "
                f"{len(self.tasks)}."
            )
        return replace(
            self,
            tasks=self.tasks[:n_tasks],
            names=self.names[:n_tasks],
            training_seconds=self.training_seconds[:n_tasks],
        )

    def model(self, *, block_bytes: int = BLOCK_BYTES) -> StorageModel:
        """Return the storage model of the tasks as they were measured."""
        return StorageModel(
            base=self.base.file_bytes,
            tasks=self.tasks,
            registry=self.registry,
            block_bytes=block_bytes,
        )


def measure(
    registry: Registry, run: str, *, file_bytes: int | None = None, empty_bytes: int = 0
) -> Measured:
    """Read what a run's own stream takes.

    `file_bytes`: of the registry's file, None where it is in none; `empty_bytes`: of one that
    remembers nothing. Raises NotInRegistryError for an unknown run, RegistryError where nothing
    has finished yet.
    """
    stream = registry.primary_stream(run)
    size = None
    if file_bytes is not None:
        n_rows = sum(t.n_arrivals + t.n_failures + t.n_quarantined for t in registry.totals.tasks())
        size = RegistryBytes(file_bytes, empty_bytes, n_rows)
    return Measured(
        run=stream.run.name,
        seed=stream.seed,
        method=stream.method,
        base=stream.base,
        tasks=tuple(task_bytes(_artifact(stream, arrival)) for arrival in stream.arrivals),
        names=tuple(arrival.task for arrival in stream.arrivals),
        training_seconds=tuple(arrival.training_seconds for arrival in stream.arrivals),
        adapter_files=_adapters(registry, stream),
        registry=size,
    )


def _artifact(stream: PrimaryStream, arrival: ArrivalRecord) -> DiffRecord:
    found = stream.diffs.get(arrival.digest or "")
    if found is None:
        raise RegistryError(
            f"The artifact {arrival.digest} of arrival {arrival.id} has no record. "
            "The registry is damaged; restore it from a copy."
        )
    return found


def _adapters(registry: Registry, stream: PrimaryStream) -> tuple[int, ...]:
    """Return the adapters' files of the same seed, in the order of arrival."""
    found = registry.arrivals.list(run=stream.run.id, status="finished", seed=stream.seed)
    own = sorted(found, key=lambda arrival: (arrival.sequence, arrival.id))
    digests = [arrival.digest for arrival in own if arrival.digest]
    diffs = {diff.digest: diff for diff in registry.artifacts.with_digests(digests)}
    files = (diffs[digest] for digest in digests if digest in diffs)
    return tuple(diff.file_bytes for diff in files if diff.kind == "adapter")
