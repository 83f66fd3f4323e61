"""What a diff would take as plain coordinates (COO), without a codec: computed, never stored.

    bytes = ceil(k (32 + value bits) / 8) + 4 head entries

Of every entry its int32 place within its tensor and its value in the diff's own type, and the
head in fp32. Which tensor, scales and a header are left out, which favours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from streamlab.planning.task_bytes import TaskBytes

PLACE_BITS = 32
HEAD_BYTES = 4
VALUE_BITS: Mapping[str, int] = MappingProxyType(
    {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
)


def find_coordinate_files(tasks: Sequence[TaskBytes]) -> tuple[int, ...] | None:
    """Return the bytes of every task as coordinates; None where one of them is no diff."""
    if any(task.kind != "diff" for task in tasks):
        return None
    return tuple(map(coordinate_bytes, tasks))


def coordinate_bytes(task: TaskBytes) -> int:
    """Return the bytes of one diff as coordinates."""
    bits = task.n_entries * (PLACE_BITS + VALUE_BITS[task.value_type])
    return -(-bits // 8) + HEAD_BYTES * task.n_head_entries
