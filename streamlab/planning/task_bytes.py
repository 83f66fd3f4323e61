"""The file of one task's diff by its parts, and what its size depends on."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.registry.records import ArtifactKind, DiffRecord


@dataclass(frozen=True, kw_only=True)
class TaskBytes:
    """One stored task, measured or supposed; the four parts add up to the file."""

    digest: str
    kind: ArtifactKind
    value_type: str
    n_gated: int  # d
    n_entries: int  # k
    n_head_entries: int
    positions: int
    values: int
    head: int
    metadata: int
    full_checkpoint: int  # what full finetuning keeps of the same task

    @property
    def file(self) -> int:
        """Return the bytes of the file."""
        return self.positions + self.values + self.head + self.metadata

    def on_disk(self, block_bytes: int) -> int:
        """Return the bytes of the blocks that the file lies in."""
        return in_blocks(self.file, block_bytes)


def in_blocks(n_bytes: int, block_bytes: int) -> int:
    """Round up to whole blocks.

    >>> in_blocks(4097, 4096)
    8192
    """
    return -(-n_bytes // block_bytes) * block_bytes


def task_bytes(diff: DiffRecord) -> TaskBytes:
    """Take the sizes of a stored artifact from its record."""
    return TaskBytes(
        digest=diff.digest,
        kind=diff.kind,
        value_type=diff.value_type,
        n_gated=diff.n_gated,
        n_entries=diff.n_entries,
        n_head_entries=diff.n_head_entries,
        positions=diff.positions_bytes,
        values=diff.values_bytes,
        head=diff.head_bytes,
        metadata=diff.metadata_bytes,
        full_checkpoint=diff.full_checkpoint_bytes,
    )
