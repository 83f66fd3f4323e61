"""What LoRA keeps of a task: two thin matrices for each of the attention's queries and values.

    bytes = b (r sum over those matrices of (rows + columns) + head entries)

with b = 2 for fp16 and 4 for fp32, which PEFT writes. The file's header, some kB, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from streamlab.planning.storage_model import TaskBytes

Layout = Sequence[tuple[str, tuple[int, ...]]]

RANK = 8
FP16_BYTES = 2
FP32_BYTES = 4
# How BERT and RoBERTa, DistilBERT, T5, Llama and their kin call a layer's queries and values.
_QUERIES_AND_VALUES = frozenset(
    ("query", "value", "q_lin", "v_lin", "q", "v", "q_proj", "v_proj", "query_proj", "value_proj")
)


def find_n_adapter_entries(layout: Layout, rank: int = RANK) -> int | None:
    """Count the numbers of an adapter; None where no queries and values are known by name."""
    entries = [
        rank * sum(shape)
        for name, shape in layout
        if len(shape) == 2 and _layer(name) in _QUERIES_AND_VALUES
    ]
    return sum(entries) if entries else None


def _layer(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]


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
