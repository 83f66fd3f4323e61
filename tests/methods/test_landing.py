"""Landing: all gates of a training moved alike, onto the density that is wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from streamlab.methods import DiffPruning
from streamlab.methods.adam import AdamRates
from streamlab.methods.contract import TrainingJob
from streamlab.methods.gates import Stretch, open_probability, sample
from streamlab.methods.generator import uniforms
from streamlab.methods.groups import GroupGates
from streamlab.methods.landing import MOST_UP, Descent, find_shift, open_counts
from streamlab.methods.native import NativeStep
from streamlab.methods.step import GatedWeights

MakeJob = Callable[..., TrainingJob]
STRETCH = Stretch(low=-0.3, high=1.2)
SHAPES = ((7, 9), (64,), (3, 40), (40, 5))
SEED = 11
RATES = AdamRates(rate=1e-2)


def make_gates(
    native: NativeStep | None, *, grouped: bool, idle: bool
) -> tuple[GatedWeights, list[Tensor], list[Tensor]]:
    """Return gated weights whose gates are spread out, the model's tensors and their base."""
    generator = torch.Generator().manual_seed(2)
    base = [torch.randn(shape, generator=generator) for shape in SHAPES]
    live = [torch.nn.Parameter(b + torch.randn(b.shape, generator=generator)) for b in base]
    used = {3: np.arange(0, 40, 2)} if idle else {}
    if idle:
        live[3].data[1::2] = base[3][1::2]  # nothing ever moved them
    gated = GatedWeights(
        live,
        base,
        [(torch.zeros_like(b), torch.zeros_like(b)) for b in base],
        n_moment_steps=0,
        log_alpha=0.5,
        stretch=STRETCH,
        groups=GroupGates(len(base), 1.5, STRETCH, SEED) if grouped else None,
        seed=SEED,
        native=native,
        rows_in_use=used,
    )
    for log_alpha in gated.log_alpha:
        log_alpha.normal_(0.3, 3.0, generator=generator)
    return gated, list(live), base


def take_steps(gated: GatedWeights, live: list[Tensor], idle: bool) -> None:
    for number, parameter in enumerate(live):
        parameter.grad = parameter.detach().clone()
        if idle and number == 3:
            parameter.grad[1::2] = 0.0
    gated.step(RATES, AdamRates(rate=0.1), penalty=0.1, product=False, grad_scale=1.0)


@pytest.mark.parametrize("idle", [False, True], ids=["all in use", "some idle"])
@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.4])
def test_gates_land_on_the_density_in_their_order_and_the_model_holds_what_they_draw(
    fused_step: NativeStep | None, density: float, grouped: bool, idle: bool
) -> None:
    gated, live, base = make_gates(fused_step, grouped=grouped, idle=idle)
    take_steps(gated, live, idle)
    before = [log_alpha.clone() for log_alpha in gated.log_alpha]

    densities = gated.land(density)

    assert densities.expected == pytest.approx(density, rel=0.01)
    moves = torch.cat([a - b for a, b in zip(gated.log_alpha, before, strict=True)])
    assert float(moves.max() - moves.min()) < 1e-5
    # The first tensor has the first positions, and its gates are drawn from where they are now.
    u = uniforms(SEED, gated.n_steps, 0, base[0].numel(), torch.device("cpu"))
    group = 1.0 if gated.groups is None else float(gated.groups.now[0])
    drawn = base[0].view(-1) + gated.w[0] * sample(gated.log_alpha[0], u, STRETCH) * group
    torch.testing.assert_close(live[0].detach().view(-1), drawn)


def test_a_step_after_a_landing_tells_the_density_that_it_left(
    fused_step: NativeStep | None,
) -> None:
    gated, live, _ = make_gates(fused_step, grouped=True, idle=True)
    take_steps(gated, live, idle=True)
    landed = gated.land(0.1)
    for parameter in live:
        parameter.grad = torch.zeros_like(parameter)

    still = AdamRates(rate=0.0)
    after = gated.step(still, still, penalty=0.0, product=False, grad_scale=1.0)

    assert after.expected == pytest.approx(landed.expected, rel=1e-5)
    assert after.deterministic == landed.deterministic


def test_shut_groups_are_not_made_up_for_without_end() -> None:
    gates = [torch.zeros(100)]
    shut = np.array([1e-6])

    shift = find_shift(gates, shut, (np.zeros(1), np.zeros(1)), 50.0, Stretch())

    assert shift == pytest.approx(MOST_UP)


@given(
    st.lists(st.floats(-35, 35), min_size=1, max_size=40),
    st.floats(0.05, 0.95),
    st.floats(0.1, 1.0),
)
def test_the_shift_is_the_one_that_leaves_as_many_open_as_wanted(
    values: list[float], share: float, group: float
) -> None:
    gates, idle = torch.tensor(values), (np.array([1.0]), np.array([7.0]))
    most = group * float(
        torch.sigmoid(gates.double() + MOST_UP).sum() + 7 * torch.sigmoid(torch.tensor(6.0))
    )
    wanted = share * most

    shift = find_shift([gates], np.array([group]), idle, wanted, Stretch())

    opened, _ = open_counts(gates.double() + shift, Stretch())
    opened += 7 * float(open_probability(torch.tensor(1.0 + shift), Stretch()))
    assert group * opened == pytest.approx(wanted, rel=0.006)


def test_the_way_down_has_even_steps_of_one_ratio_from_where_the_price_left_it() -> None:
    descent = Descent(50, 4, goal=0.02)

    told = [descent.wanted(step, 0.32) for step in range(1, 51)]

    moves = {step + 1: wanted for step, wanted in enumerate(told) if wanted is not None}
    assert list(moves) == [35, 40, 45]  # and the end of the stage, where the last move is made
    assert list(moves.values()) == pytest.approx([0.16, 0.08, 0.04])


def test_a_single_landing_is_at_the_end_of_the_stage() -> None:
    descent = Descent(50, 1, goal=0.02)

    assert all(descent.wanted(step, 0.3) is None for step in range(1, 51))


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("epochs", [5, 12])
def test_a_training_that_lands_ends_at_the_density_it_was_to_reach(
    make_job: MakeJob, structured: bool, epochs: int
) -> None:
    method = DiffPruning(target_density=0.02, structured=structured, landings=4)

    details = method.train(make_job(epochs=epochs)).details

    wanted = method.steer_to * method.target_density
    assert details["expected_density"] == pytest.approx(wanted, rel=0.1)


def test_landing_wants_a_density_to_land_on() -> None:
    with pytest.raises(ValidationError, match="a steered `penalty` follows"):
        DiffPruning(landings=1, penalty=1e-7)


def test_a_method_that_never_lands_is_recorded_as_before_there_were_landings() -> None:
    assert "landings" not in DiffPruning().model_dump()
    assert DiffPruning(landings=2).model_dump()["landings"] == 2
