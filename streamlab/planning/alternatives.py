"""Bytes of alternatives to the diff file: LoRA adapters and plain coordinates (COO).

    LoRA = b (r sum of (rows + columns) over the query and value matrices + head entries)
    COO  = ceil(k (32 + value bits) / 8) + 4 head entries

b = 2 for fp16, as adapters are stored, and 4 for fp32, as PEFT writes them; r is the rank. COO has
an int32 position within its tensor and a value per entry, and an fp32 head. Headers and scales are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.diff.format.values import VALUE_BITS
from streamlab.diff.layout import QUERIES_AND_VALUES
from streamlab.registry.records import NewDiff

Layout = Sequence[tuple[str, tuple[int, ...]]]

RANK = 8
FP16_BYTES = 2
FP32_BYTES = 4
POSITION_BITS = 32


def find_n_adapter_entries(layout: Layout, rank: int = RANK) -> int | None:
    """Count the entries of an adapter; None if no query or value matrix is recognised."""
    entries = [
        rank * sum(shape)
        for name, shape in layout
        if len(shape) == 2 and name.removesuffix(".weight").rpartition(".")[2] in QUERIES_AND_VALUES
    ]
    return sum(entries) if entries else None


def find_coordinate_files(tasks: Sequence[NewDiff]) -> tuple[int, ...] | None:
    """Return the bytes of every task as coordinates; None if one of them is not a diff."""
    if any(task.kind != "diff" for task in tasks):
        return None
    return tuple(
        -(-task.n_entries * (POSITION_BITS + VALUE_BITS[task.value_type]) // 8)
        + FP32_BYTES * task.n_head_entries
        for task in tasks
    )
