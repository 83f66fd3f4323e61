"""A diff as the registry records it, read off its file."""

from __future__ import annotations

from streamlab.diff.format.container import inspect
from streamlab.diff.vector import DiffVector
from streamlab.registry.records import NewDiff


def describe_diff(diff: DiffVector, data: bytes, *, full_bytes: int) -> NewDiff:
    """Describe the diff that `data` was decoded to.

    `full_bytes`: what one full checkpoint of the same task takes.
    """
    facts = inspect(data, max_bytes=len(data))
    return NewDiff(
        digest=facts["digest"],
        kind="diff",
        base_fingerprint=diff.layout.fingerprint,
        value_type=facts["value_type"],
        n_gated=diff.n_gated,
        n_entries=diff.n_entries,
        n_head_entries=diff.n_head_entries,
        file_bytes=len(data),
        **{f"{part}_bytes": n_bytes for part, n_bytes in facts["parts"].items()},
        full_checkpoint_bytes=full_bytes,
        tensor_counts=diff.counts,
    )
