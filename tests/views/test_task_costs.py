"""What a task costs: measured files beside what is computed for the same base."""

from __future__ import annotations

import pytest

from streamlab.registry.records import BaseRecord, MethodStorage
from streamlab.views.table import Table
from streamlab.views.task_costs import cost_table, task_costs

LAYOUT = (("layer.0.query.weight", (100, 100)), ("layer.0.value.weight", (100, 100)))


def base() -> BaseRecord:
    return BaseRecord(
        id=1, added_at=0.0, fingerprint="f", model="m", revision=None, layers=None, n_tensors=2,
        n_parameters=20_000, weights_bytes=80_000, file_bytes=80_000, layout=LAYOUT,
    )  # fmt: skip


def stored(method: str, density: float, n_bytes: int) -> MethodStorage:
    return MethodStorage(method, 2, density, 2 * n_bytes, 2 * 81_000)


def names(table: Table) -> list[object]:
    return [row[0] for row in table.rows]


def test_files_are_listed_beside_a_checkpoint_lora_and_the_papers_density() -> None:
    table = cost_table(task_costs(base(), [stored("tiny", 0.0003, 90)]))

    rows = {row[0]: row[1:] for row in table.rows}
    assert names(table) == ["full checkpoint", "LoRA, rank 8, fp16", "diff of 0.5%, int4", "tiny"]
    assert rows["full checkpoint"] == (81_000, 81_000_000_000, 1.0, "computed")
    assert rows["LoRA, rank 8, fp16"][0] == 2 * 8 * 400
    assert rows["diff of 0.5%, int4"][0] == 164  # 100 entries of 9.083 and 4 bits
    assert rows["tiny"] == (90, 90_080_000, pytest.approx(81e9 / 90_080_000), "measured")


def test_what_was_stored_is_not_computed_too() -> None:
    storage = [stored("sparse", 0.005, 200), stored("full", 1.0, 81_000)]
    table = cost_table(task_costs(base(), storage))

    assert names(table) == ["full", "LoRA, rank 8, fp16", "sparse"]
    assert table.rows[0][1:] == (81_000, 81_000_000_000, 1.0, "measured")


def test_a_run_without_a_file_has_no_costs() -> None:
    assert task_costs(base(), []) == []
