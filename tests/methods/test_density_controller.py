"""The density controller: a common shift of all gates brings the density to its goal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamlab.methods import DiffPruning
from streamlab.methods.api import Progress, TrainingJob
from streamlab.methods.gates.density_controller import (
    FALL_SHARE,
    MAX_SHIFT,
    REACHABLE_SHARE,
    DensityController,
    correct,
)
from streamlab.methods.gates.hard_concrete import Densities

MakeJob = Callable[..., TrainingJob]


def log_odds(density: float) -> float:
    return float(np.log(density / (1.0 - density)))


def counted(log_alpha: NDArray[np.float64], group_open: float = 1.0) -> Densities:
    p = 1.0 / (1.0 + np.exp(-log_alpha))
    expected, slope = group_open * p.mean(), group_open * (p * (1.0 - p)).mean()
    return Densities(float(expected), float((p > 0.5).mean()), float(slope), group_open)


def test_the_wanted_density_falls_evenly_in_log_odds_and_is_held_at_the_goal() -> None:
    controller = DensityController(50, start=0.99, goal=0.02)

    wanted = [log_odds(controller.wanted(n_taken)) for n_taken in range(51)]

    steps = [after - before for before, after in itertools.pairwise(wanted)]
    n_falling = round(FALL_SHARE * 50)
    assert wanted[0] == pytest.approx(log_odds(0.99))
    assert steps[:n_falling] == pytest.approx(
        [(log_odds(0.02) - log_odds(0.99)) / n_falling] * n_falling
    )
    assert wanted[n_falling:] == pytest.approx([log_odds(0.02)] * (51 - n_falling))


def test_a_goal_above_the_start_is_no_climb() -> None:
    controller = DensityController(50, start=0.3, goal=1.0)

    assert controller.wanted(50) == pytest.approx(0.3)
    assert controller.shift(Densities(0.3, 0.3, 0.21, 1.0)) == pytest.approx(0.0)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_steps=st.integers(24, 200),
    goal=st.floats(0.002, 0.3),
    travel=st.floats(0.0, 30.0),
    closing=st.floats(-0.2, 0.4),
)
def test_gates_that_move_of_themselves_end_within_a_tenth_of_the_goal(
    seed: int, n_steps: int, goal: float, travel: float, closing: float
) -> None:
    # `closing`: the common part of their drift, as by the L0 penalty; the rest is random.
    generator = np.random.default_rng(seed)
    log_alpha = np.full(2_000, 5.0)
    controller = DensityController(n_steps, start=counted(log_alpha).expected, goal=goal)
    own = generator.normal(-closing, 0.3, log_alpha.size) * travel / n_steps

    for _ in range(n_steps):
        log_alpha += controller.shift(counted(log_alpha)) + own

    assert counted(log_alpha).expected == pytest.approx(goal, rel=0.1)


def test_no_step_is_longer_than_what_is_allowed() -> None:
    slow, short = (
        DensityController(50, start=0.99, goal=0.02),
        DensityController(2, start=0.99, goal=0.02),
    )
    far = Densities(0.99, 1.0, 0.0099, 1.0)

    assert [slow.shift(far) for _ in range(50)][-1] == pytest.approx(-MAX_SHIFT)
    assert short.shift(far) < -MAX_SHIFT


def test_gates_far_out_do_not_make_a_step_without_bounds() -> None:
    # Half of them wide open, half closed: hardly any density is to be had by a small move.
    controller = DensityController(5, start=0.5, goal=0.5)

    assert controller.shift(Densities(0.51, 0.5, 0.0, 1.0)) == pytest.approx(-10.0 * log_odds(0.51))


def test_groups_that_close_do_not_push_their_entries_up_without_end() -> None:
    log_alpha = np.full(2_000, 5.0)
    controller = DensityController(200, start=counted(log_alpha).expected, goal=0.02)

    for step in range(200):
        log_alpha += controller.shift(counted(log_alpha, group_open=0.9**step))

    assert counted(log_alpha).expected == pytest.approx(REACHABLE_SHARE, abs=0.002)


@given(
    st.lists(st.floats(-35, 35) | st.sampled_from([-30.0, 30.0]), min_size=1, max_size=80),
    st.floats(0.01, 0.99),
    st.floats(0.1, 1.0),
)
def test_the_final_correction_reaches_the_goal_in_a_few_moves(
    values: list[float], goal: float, group_open: float
) -> None:
    log_alpha, moves = np.array(values), 0

    def move(shift: float) -> Densities:
        nonlocal moves
        moves += 1
        log_alpha.__iadd__(shift)
        return counted(log_alpha, group_open)

    corrected = correct(counted(log_alpha, group_open), goal, move)

    assert corrected.expected == pytest.approx(min(goal, REACHABLE_SHARE * group_open), rel=0.006)
    assert np.ptp(log_alpha - np.array(values)) < 1e-9
    assert moves < 40


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("epochs", [5, 12, 40])
def test_a_training_ends_its_gated_stage_at_the_density_it_was_to_reach(
    make_job: MakeJob, structured: bool, epochs: int
) -> None:
    method = DiffPruning(target_density=0.02, candidate_ratio=4.0, structured=structured)

    details = method.train(make_job(epochs=epochs)).summary.details

    assert details["expected_density"] == pytest.approx(0.08, rel=0.006)


def test_where_time_runs_short_the_final_correction_covers_the_rest(make_job: MakeJob) -> None:
    clock = itertools.count(0.0, 0.2)
    job = replace(make_job(epochs=40, max_seconds=20.0), clock=lambda: next(clock))

    details = DiffPruning(target_density=0.02, candidate_ratio=4.0).train(job).summary.details

    assert details["steps_gated"] < 30
    assert details["density_before_correction"] > 0.1
    assert details["expected_density"] == pytest.approx(0.08, rel=0.006)


def test_a_given_coefficient_has_no_density_controller(make_job: MakeJob) -> None:
    shown: list[Progress] = []
    job = replace(make_job(epochs=5), watch=shown.append)

    DiffPruning(l0_coefficient=1e-12, gate_learning_rate=1e-6).train(job)

    assert min(p.density for p in shown if p.density is not None) > 0.98
