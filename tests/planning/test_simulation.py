"""The ladder, the baselines beside it, and the measured bytes wherever they were measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning_samples import BASE, nine

from streamlab.arrivals.arrival_processes import Poisson
from streamlab.planning.alternatives import find_n_adapter_entries
from streamlab.planning.measured import BaselineFiles
from streamlab.planning.queueing import DAY, serve
from streamlab.planning.simulation import ladder, simulate
from streamlab.planning.what_if import WhatIf


def test_inside_the_data_it_is_what_was_measured() -> None:
    measured = nine()

    for n_tasks in range(1, 10):
        last = simulate(measured, n_tasks, WhatIf()).steps[-1]

        own = measured.tasks[:n_tasks]
        assert last.storage.basis == "measured"
        assert last.storage.files == BASE.file_bytes + sum(task.file_bytes for task in own)
        assert last.full_bytes == sum(task.full_checkpoint_bytes for task in own)


def test_beyond_the_data_it_says_so() -> None:
    steps = simulate(nine(), 1_000_000, WhatIf()).steps

    assert [step.storage.n_tasks for step in steps] == ladder(1_000_000, 9)
    assert {step.storage.basis for step in steps if step.storage.n_tasks > 9} == {"extrapolated"}


def test_the_ladder_rises() -> None:
    steps = simulate(nine(), 1_000_000, WhatIf()).steps

    for name in ("full_bytes", "adapter_bytes", "lora_fp32_bytes"):
        sizes = [getattr(step, name) for step in steps]
        assert sizes == sorted(sizes)
    totals = [step.storage.total for step in steps]
    assert totals == sorted(totals)


def test_a_ladder_ends_with_what_was_asked_for() -> None:
    assert ladder(1, 9) == [1]
    assert ladder(9, 9) == [1, 9]
    assert ladder(250, 100) == [1, 10, 100, 250]


def test_lora_takes_two_thin_matrices_for_each_query_and_value() -> None:
    # PEFT's own file of rank 8 on this base holds 73,728 numbers beside the head.
    assert find_n_adapter_entries(BASE.layout) == 73_728
    assert find_n_adapter_entries(BASE.layout, rank=16) == 2 * 73_728


@pytest.mark.parametrize("names", [("q_lin", "v_lin"), ("q_proj", "v_proj"), ("q", "v")])
def test_other_families_call_them_by_other_names(names: tuple[str, ...]) -> None:
    layout = [(f"layers.0.attention.{name}.weight", (30, 20)) for name in (*names, "k_proj")]

    assert find_n_adapter_entries(layout) == 8 * 2 * 50


def test_a_base_without_such_names_has_no_lora_beside_it() -> None:
    measured = replace(nine(), base=replace(BASE, layout=(("dense.weight", (4, 4)),)))

    last = simulate(measured, 100, WhatIf()).steps[-1]

    assert (last.adapter_bytes, last.lora_fp32_bytes) == (None, None)


def test_lora_is_its_base_and_an_adapter_with_a_head_a_task() -> None:
    first = simulate(nine(), 1, WhatIf()).steps[-1]

    assert first.adapter_bytes == BASE.file_bytes + 2 * (73_728 + 770)
    assert first.lora_fp32_bytes == BASE.file_bytes + 4 * (73_728 + 770)


def test_measured_adapters_stand_in_for_the_formula() -> None:
    measured = replace(nine(), adapters=BaselineFiles("vera", (300_000, 310_000)))

    simulated = simulate(measured, 4, WhatIf())

    assert simulated.steps[-1].adapter_bytes == BASE.file_bytes + 2 * 610_000
    assert simulated.steps[0].adapter_bytes == BASE.file_bytes + 300_000


def test_measured_adapters_say_nothing_of_another_base() -> None:
    measured = replace(nine(), adapters=BaselineFiles("vera", (300_000, 310_000)))

    supposed = simulate(measured, 4, WhatIf(base_params=8 * BASE.n_parameters))

    assert supposed.adapters is not None
    assert supposed.adapters.measured is None
    # Twice as wide and twice as deep.
    assert supposed.adapters.fp16[0] == 2 * (4 * 73_728 + 2 * 770)


def test_copies_are_of_the_baselines_too() -> None:
    once = simulate(nine(), 100, WhatIf()).steps[-1]
    thrice = simulate(nine(), 100, WhatIf(n_copies=3)).steps[-1]

    assert thrice.full_bytes == 3 * once.full_bytes
    assert thrice.adapter_bytes == 3 * (once.adapter_bytes or 0)


def test_a_budget_is_full_before_the_task_that_would_not_fit() -> None:
    queue = serve(1000, process=Poisson(rate_per_day=10), n_slots=1, service_seconds=[40.0], seed=0)

    full = simulate(nine(), 1000, WhatIf(), queue=queue, budget=100_000_000).full

    assert full is not None
    assert full.n_tasks == 57
    assert full.day == queue.arrived[57] / DAY


def test_a_budget_that_outlasts_the_tasks_has_no_day() -> None:
    queue = serve(10, process=Poisson(rate_per_day=10), n_slots=1, service_seconds=[40.0], seed=0)

    full = simulate(nine(), 10, WhatIf(), queue=queue, budget=10**12).full

    assert full is not None
    assert full.day is None
