"""A plan says what a run would do, and the run then does it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from stream_samples import Lab, Ran, only

from streamlab.base import load_base
from streamlab.stream.estimate import PlannedArrival, plan
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario


def planned(path: Path, *overrides: str) -> list[PlannedArrival]:
    loaded = load_scenario(path, overrides=overrides)
    base = load_base(loaded.scenario.base, seed=loaded.scenario.seeds[0])
    return plan(RunContext(loaded.scenario, base, loaded.folder))


@pytest.fixture(scope="module")
def foreseen(many: Ran) -> list[PlannedArrival]:
    return planned(many.path)


def test_a_plan_names_the_arrivals_of_the_run_in_their_order_with_their_sizes(
    many: Ran, foreseen: list[PlannedArrival]
) -> None:
    for row, outcome in zip(foreseen, many.outcomes, strict=True):
        record, diff = outcome.record, outcome.diff
        assert diff is not None
        assert row.arrival == outcome.arrival
        assert (row.source, row.n_train_examples) == (record.source, record.n_train_examples)
        assert (row.n_steps, row.n_entries) == (record.n_steps, diff.n_entries)


def test_planned_bytes_bound_the_file_but_for_its_header(
    many: Ran, foreseen: list[PlannedArrival]
) -> None:
    for row, outcome in zip(foreseen, many.outcomes, strict=True):
        assert outcome.diff is not None
        payload = outcome.diff.file_bytes - outcome.diff.metadata_bytes
        if outcome.diff.kind == "checkpoint":
            assert row.file_bytes == payload
        else:
            # Up to 64 bytes frame what is too little to compress.
            assert row.file_bytes / 2 < payload <= row.file_bytes + 64


def test_narrower_values_and_a_lower_density_are_planned_smaller(lab: Lab) -> None:
    path = lab.scenario(name="planned", **only("mood"))

    sizes = [
        planned(path, override)[0].file_bytes
        for override in (
            "storage.values=fp32",
            "storage.values=bf16",
            "storage.values=int4",
            "defaults.method.target_density=0.01",
        )
    ]

    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] > 0


def test_time_is_planned_by_steps_and_method_and_is_never_nothing(
    foreseen: list[PlannedArrival],
) -> None:
    own, whole, head = foreseen[:3]

    assert 0 < head.seconds < own.seconds == whole.seconds


def test_time_is_planned_also_where_all_rows_fit_into_one_batch(lab: Lab) -> None:
    path = lab.scenario(name="one_batch", **only("mood"))

    began = time.perf_counter()
    (row,) = planned(path, "defaults.training.batch_size=512")
    took = time.perf_counter() - began

    assert 0 < row.seconds / row.n_steps < took


def test_planning_leaves_the_base_and_the_global_generator_alone(lab: Lab) -> None:
    loaded = load_scenario(lab.scenario(name="left_alone", **only("mood")))
    base = load_base(loaded.scenario.base, seed=1)
    state = torch.random.get_rng_state()

    plan(RunContext(loaded.scenario, base, loaded.folder))

    base.check_unchanged()
    assert torch.equal(torch.random.get_rng_state(), state)
