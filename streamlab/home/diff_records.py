"""Registry records of diff files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from streamlab.diff.format.container import DiffFile
from streamlab.diff.vector import DiffVector
from streamlab.registry.records import NewDiff


def describe_diff(diff: DiffVector, file: DiffFile, *, full_bytes: int) -> NewDiff:
    """Return the record of a diff and the file it was decoded from.

    `full_bytes`: size of a full checkpoint of the same task.
    """
    return NewDiff(
        digest=file.digest,
        kind="diff",
        base_fingerprint=diff.layout.fingerprint,
        file_bytes=file.n_bytes,
        full_checkpoint_bytes=full_bytes,
        tensor_counts=diff.counts,
        **header_fields(file),
    )


def header_fields(file: DiffFile) -> dict[str, Any]:
    """Return the fields of a record that the file itself states, by name."""
    return {
        "value_type": file.header.value_type,
        "n_gated": file.header.d,
        "n_entries": file.header.k,
        "n_head_entries": file.n_head_entries,
        **{f"{part}_bytes": n_bytes for part, n_bytes in asdict(file.parts).items()},
    }
