"""The fused step against the formulas, written out for autograd in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.hard_concrete import (
    FIRST_POSITION,
    Densities,
    GroupGates,
    NoGroupGates,
    Stretch,
    sample,
)
from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.kernels.gated_weights import BLOCK_ENTRIES, GatedWeights
from streamlab.methods.kernels.native import NativeStep, find_native_step

SMALL = ((), (1,), (7, 9), (64,), (65,), (3, 40), (5,), (2, 3, 4), (130,))
LARGE = ((10,), (BLOCK_ENTRIES,), (2, 32_801), (63,), (BLOCK_ENTRIES + 1,), (64,))
SKEWED = Stretch(low=-0.3, high=1.2)
SEED = (5 << 32) + 3

# With an epsilon that dwarfs any gradient, a step of Adam is the gradient itself.
READ_GRADIENT = AdamSettings(learning_rate=1e8, epsilon=1e8)
W_ADAM, ALPHA_ADAM = AdamSettings(learning_rate=1e-2), AdamSettings(learning_rate=0.1, epsilon=1e-2)


class Case:
    """Gated weights with random values, and a loss of which the gradient is known.

    L = sum of coefficient * theta + theta^2 / 2
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        step: NativeStep | None,
        *,
        groups: bool = False,
        stretch: Stretch = SKEWED,
        n_moment_steps: int = 0,
        device: str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(2)

        def draw(scale: float) -> list[Tensor]:
            random_values = [torch.randn(shape, generator=generator) * scale for shape in shapes]
            return [tensor.to(device) for tensor in random_values]

        self.base, self.coefficients = draw(1.0), draw(1.0)
        self.live = [torch.nn.Parameter(b + w) for b, w in zip(self.base, draw(0.5), strict=True)]
        scale = 0.1 if n_moment_steps else 0.0
        self.moments = [(m, s.abs()) for m, s in zip(draw(scale), draw(scale), strict=True)]
        self.stretch = stretch
        self.gated = GatedWeights(
            self.live,
            self.base,
            self.moments,
            n_moment_steps=n_moment_steps,
            log_alpha=0.0,
            stretch=stretch,
            groups=GroupGates(len(shapes), 0.5, stretch, SEED)
            if groups
            else NoGroupGates(len(shapes)),
            seed=SEED,
            kernels=step,
        )
        for log_alpha in self.gated.log_alpha:
            random_values = torch.empty(log_alpha.shape).normal_(0.3, 2.0, generator=generator)
            log_alpha.copy_(random_values)
        sizes = [b.numel() for b in self.base]
        self.starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def uniforms(self, tensor: int) -> Tensor:
        count = self.base[tensor].numel()
        return uniforms(SEED, self.gated.n_steps, self.starts[tensor], count, torch.device("cpu"))

    def backward(self) -> None:
        for p, coefficient in zip(self.live, self.coefficients, strict=True):
            p.grad = coefficient + p.detach()

    def step(
        self,
        w: AdamSettings = W_ADAM,
        alpha: AdamSettings = ALPHA_ADAM,
        *,
        penalty: float = 0.0,
        product: bool = False,
        grad_scale: float = 1.0,
        shift: float = 0.0,
    ) -> Densities:
        return self.gated.step(
            w, alpha, l0_coefficient=penalty, product=product, grad_scale=grad_scale, shift=shift
        )

    def state(self) -> list[Tensor]:
        live = [p.detach().clone().reshape(-1) for p in self.live]
        return [*live, *(w.clone() for w in self.gated.w), *map(torch.clone, self.gated.log_alpha)]


def gate(log_alpha: Tensor, u: Tensor, stretch: Stretch) -> Tensor:
    """Return z as the paper writes it, for autograd."""
    s = torch.sigmoid(torch.log(u) - torch.log(1.0 - u) + log_alpha)
    return (s * (stretch.high - stretch.low) + stretch.low).clamp(0.0, 1.0)


def probability(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    return torch.sigmoid(log_alpha - torch.log(torch.tensor(-stretch.low / stretch.high)))


def leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone().double().requires_grad_() for t in tensors]


def group_uniforms(n_groups: int, step: int) -> Tensor:
    return uniforms(SEED, step, FIRST_POSITION, n_groups, torch.device("cpu")).double()


@pytest.mark.parametrize("product", [False, True], ids=["additive", "product"])
@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
@pytest.mark.parametrize("stretch", [Stretch(), SKEWED], ids=["published stretch", "skewed"])
def test_gradients_are_those_of_the_formula(
    fused_step: NativeStep | None, product: bool, grouped: bool, stretch: Stretch
) -> None:
    case = Case(SMALL, fused_step, groups=grouped, stretch=stretch)
    gated, n_groups, penalty = case.gated, len(SMALL), 0.3
    w, alpha = leaves(gated.w), leaves(gated.log_alpha)
    group_alpha = torch.full((n_groups,), 0.5, dtype=torch.float64, requires_grad=True)
    group_gates = gate(group_alpha, group_uniforms(n_groups, 0), stretch)
    if not grouped:
        group_gates = torch.ones(n_groups)
    objective = torch.tensor(0.0, dtype=torch.float64)
    for i in range(n_groups):
        z = gate(alpha[i], case.uniforms(i).double(), stretch)
        theta = case.base[i].reshape(-1).double() + z * group_gates[i] * w[i]
        coefficient = case.coefficients[i].reshape(-1).double()
        objective = objective + (coefficient * theta + theta**2 / 2.0).sum()
        case.live[i].grad = (coefficient + theta).detach().float().reshape(SMALL[i])
        weight = probability(group_alpha[i], stretch).detach() if product and grouped else 1.0
        objective = objective + penalty * weight * probability(alpha[i], stretch).sum()

    case.step(READ_GRADIENT, READ_GRADIENT, penalty=penalty, product=product)

    if isinstance(gated.groups, GroupGates):
        # The group's penalty is its entries' expected count after the pass over them.
        counts = [probability(a, stretch).sum() if product else 1.0 for a in gated.log_alpha]
        penalties = penalty * torch.tensor([float(count) for count in counts]).double()
        objective = objective + (penalties * probability(group_alpha, stretch)).sum()
    objective.backward()
    for old, new in zip([*w, *alpha], [*gated.w, *gated.log_alpha], strict=True):
        assert old.grad is not None
        taken = old.detach() - new.double()
        torch.testing.assert_close(taken, old.grad, rtol=1e-5, atol=1e-5)
    if isinstance(gated.groups, GroupGates):
        assert group_alpha.grad is not None
        assert bool(((group_gates > 0.0) & (group_gates < 1.0)).any())
        taken = group_alpha.detach() - torch.from_numpy(gated.groups.log_alpha)
        torch.testing.assert_close(taken, group_alpha.grad, rtol=1e-5, atol=1e-5)


def test_steps_are_those_of_adam_going_on_from_the_moments_it_is_given(
    fused_step: NativeStep | None,
) -> None:
    case = Case(SMALL, fused_step, n_moment_steps=3)
    w, alpha = leaves(case.gated.w), leaves(case.gated.log_alpha)
    w_adam = torch.optim.Adam(w, lr=W_ADAM.learning_rate, eps=W_ADAM.epsilon)
    alpha_adam = torch.optim.Adam(alpha, lr=ALPHA_ADAM.learning_rate, eps=ALPHA_ADAM.epsilon)
    for parameter, (mean, square) in zip(w, case.moments, strict=True):
        w_adam.state[parameter] = {
            "step": torch.tensor(3.0),
            "exp_avg": mean.reshape(-1).double(),
            "exp_avg_sq": square.reshape(-1).double(),
        }

    for step in range(6):
        objective = torch.tensor(0.0, dtype=torch.float64)
        for i, base in enumerate(case.base):
            z = gate(alpha[i], case.uniforms(i).double(), case.stretch)
            theta = base.reshape(-1).double() + z * w[i]
            coefficient = case.coefficients[i].reshape(-1).double()
            objective = objective + (coefficient * theta + theta**2 / 2.0).sum()
            objective = objective + 0.1 * probability(alpha[i], case.stretch).sum()
            if step == 0:  # the first gates were sampled from other log-odds
                case.live[i].data.copy_(theta.detach().reshape(base.shape))
        objective.backward()
        for optimizer in (w_adam, alpha_adam):
            optimizer.step()
            optimizer.zero_grad()
        case.backward()
        case.step(penalty=0.1)

    for expected, found in zip([*w, *alpha], [*case.gated.w, *case.gated.log_alpha], strict=True):
        torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
def test_the_compiled_and_the_eager_step_agree(
    native_step: NativeStep, shapes: Sequence[tuple[int, ...]], grouped: bool
) -> None:
    compiled, eager = (Case(shapes, step, groups=grouped) for step in (native_step, None))
    for case in (compiled, eager):
        case.backward()

    densities = [case.step(penalty=0.01, grad_scale=0.7) for case in (compiled, eager)]

    for one, other in zip(compiled.state(), eager.state(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6)
    assert densities[0].expected == pytest.approx(densities[1].expected, rel=1e-6)
    assert densities[0].deterministic == densities[1].deterministic
    if isinstance(compiled.gated.groups, GroupGates) and isinstance(eager.gated.groups, GroupGates):
        moved = compiled.gated.groups.log_alpha
        np.testing.assert_allclose(moved, eager.gated.groups.log_alpha, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
def test_a_gpu_and_the_processor_agree(shapes: Sequence[tuple[int, ...]], grouped: bool) -> None:
    here, there = (Case(shapes, None, groups=grouped, device=d) for d in ("cpu", "cuda"))
    for case in (here, there):
        case.backward()

    densities = [case.step(penalty=0.01, grad_scale=0.7, shift=-0.3) for case in (here, there)]

    for one, other in zip(here.state(), there.state(), strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(densities[0], densities[1], rtol=1e-4)


@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
def test_the_number_of_threads_does_not_change_a_bit(
    native_step: NativeStep, grouped: bool
) -> None:
    del native_step  # asked for so that this is skipped where there is none

    def steps(n_threads: int) -> tuple[list[Tensor], list[Densities]]:
        case = Case(LARGE, find_native_step(n_threads), groups=grouped)
        densities = []
        for _ in range(3):
            case.backward()
            densities.append(case.step(penalty=0.01))
        return case.state(), densities

    expected, densities = steps(1)

    for n_threads in (2, 3, 20):
        found, found_densities = steps(n_threads)
        assert found_densities == densities
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
def test_the_model_computes_with_the_base_plus_what_the_resampled_gates_let_through(
    fused_step: NativeStep | None, shapes: Sequence[tuple[int, ...]]
) -> None:
    case = Case(shapes, fused_step, groups=True)
    gated = case.gated

    for _ in range(2):
        case.backward()
        case.step(penalty=0.01)

        for i, base in enumerate(case.base):
            z = sample(gated.log_alpha[i], case.uniforms(i), case.stretch) * gated.groups.now[i]
            expected = base.reshape(-1) + z * gated.w[i]
            torch.testing.assert_close(
                case.live[i].detach().reshape(-1), expected.float(), rtol=2e-6, atol=2e-6
            )


def test_the_first_weights_are_sampled_at_once(fused_step: NativeStep | None) -> None:
    case = Case(SMALL, fused_step, groups=True)
    gated = case.gated

    for i, base in enumerate(case.base):
        random_values = sample(torch.zeros(base.numel()), case.uniforms(i), case.stretch)
        expected = base.reshape(-1) + random_values * gated.w[i] * float(gated.groups.now[i])
        torch.testing.assert_close(case.live[i].detach().reshape(-1), expected)


def test_closed_gates_leave_the_base_to_the_last_bit(fused_step: NativeStep | None) -> None:
    case = Case(LARGE, fused_step)
    for log_alpha in case.gated.log_alpha:
        log_alpha.fill_(-80.0)
    case.backward()

    densities = case.step()

    assert densities.expected < 1e-20
    assert densities.deterministic == 0.0
    for p, base in zip(case.live, case.base, strict=True):
        assert torch.equal(p.detach(), base)


@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
def test_densities_are_those_of_the_gates_after_the_step(
    fused_step: NativeStep | None, grouped: bool
) -> None:
    case = Case(SMALL, fused_step, groups=grouped)
    case.backward()

    densities = case.step(penalty=0.01)

    groups = case.gated.groups
    shares = groups.open_probability
    open_groups = groups.deterministic > 0.0
    alphas = [a.double() for a in case.gated.log_alpha]
    expected = [float(probability(a, case.stretch).sum()) for a in alphas]
    certain = [int((a > case.stretch.shift).sum()) for a in alphas]
    n_gated = sum(b.numel() for b in case.base)
    assert case.gated.n_gated == n_gated
    assert densities.expected == pytest.approx(float(expected @ shares) / n_gated, rel=1e-6)
    assert densities.deterministic == pytest.approx(float(certain @ open_groups) / n_gated)
    counted_anew = case.gated.densities()
    assert densities.deterministic == counted_anew.deterministic
    np.testing.assert_allclose(densities, counted_anew, rtol=1e-6)


@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
def test_a_shift_moves_the_gates_of_all_entries_alike_before_they_are_sampled(
    fused_step: NativeStep | None, grouped: bool
) -> None:
    plain, shifted = (Case(SMALL, fused_step, groups=grouped) for _ in range(2))
    for case in (plain, shifted):
        case.backward()

    plain.step(penalty=0.01)
    shifted.step(penalty=0.01, shift=-0.75)

    for i, base in enumerate(shifted.base):
        torch.testing.assert_close(
            shifted.gated.log_alpha[i], plain.gated.log_alpha[i] - 0.75, rtol=0.0, atol=1e-6
        )
        assert torch.equal(shifted.gated.w[i], plain.gated.w[i])
        z = sample(shifted.gated.log_alpha[i], shifted.uniforms(i), shifted.stretch)
        groups = shifted.gated.groups
        change = z * shifted.gated.w[i] * float(groups.now[i])
        torch.testing.assert_close(
            shifted.live[i].detach().reshape(-1), base.reshape(-1) + change, rtol=2e-6, atol=2e-6
        )
    if isinstance(plain.gated.groups, GroupGates) and isinstance(shifted.gated.groups, GroupGates):
        np.testing.assert_array_equal(plain.gated.groups.log_alpha, shifted.gated.groups.log_alpha)


@pytest.mark.parametrize("grouped", [False, True], ids=["unstructured", "structured"])
def test_the_slope_is_what_a_small_shift_adds_to_the_density(
    fused_step: NativeStep | None, grouped: bool
) -> None:
    still = AdamSettings(learning_rate=0.0)
    cases = [Case(SMALL, fused_step, groups=grouped) for _ in range(3)]
    for case in cases:
        case.backward()

    less, here, more = (
        case.step(still, still, shift=shift)
        for case, shift in zip(cases, (-1e-2, 0.0, 1e-2), strict=True)
    )

    assert here.slope == pytest.approx((more.expected - less.expected) / 2e-2, rel=1e-3)


def test_a_parameter_without_a_gradient_pays_the_penalty_only(
    fused_step: NativeStep | None,
) -> None:
    case = Case(SMALL, fused_step, groups=True)
    case.backward()
    case.live[3].grad = None
    before = [w.clone() for w in case.gated.w], [a.clone() for a in case.gated.log_alpha]

    case.step(READ_GRADIENT, READ_GRADIENT, penalty=0.3)

    p = probability(before[1][3], case.stretch)
    paid = before[1][3] - case.gated.log_alpha[3]
    torch.testing.assert_close(paid, 0.3 * p * (1.0 - p), rtol=1e-5, atol=1e-6)
    assert torch.equal(case.gated.w[3], before[0][3])
    assert not torch.equal(case.gated.w[2], before[0][2])
    p = probability(torch.tensor(0.5, dtype=torch.float64), case.stretch)
    paid = 0.5 - case.gated.groups.log_alpha[3]
    assert paid == pytest.approx(0.3 * float(p * (1.0 - p)), rel=1e-6)


def test_a_gradient_that_is_no_block_of_memory_is_read_right(
    fused_step: NativeStep | None,
) -> None:
    plain, strided = (Case(((4, 6), (8,)), fused_step) for _ in range(2))
    for case in (plain, strided):
        case.live[0].grad = torch.arange(24.0).reshape(6, 4).T
        case.live[1].grad = torch.tensor(2.0).expand(8)
    for parameter in plain.live:
        assert parameter.grad is not None
        parameter.grad = parameter.grad.clone(memory_format=torch.contiguous_format)

    for case in (plain, strided):
        case.step()

    assert all(torch.equal(a, b) for a, b in zip(plain.state(), strided.state(), strict=True))


def test_gradients_are_scaled_but_the_penalty_is_not(fused_step: NativeStep | None) -> None:
    scaled, given = (Case(SMALL, fused_step, groups=True) for _ in range(2))
    for case in (scaled, given):
        case.backward()
    for parameter in given.live:
        assert parameter.grad is not None
        parameter.grad.mul_(0.25)

    scaled.step(penalty=0.3, grad_scale=0.25)
    given.step(penalty=0.3)

    assert all(torch.equal(a, b) for a, b in zip(scaled.state(), given.state(), strict=True))
    assert np.array_equal(scaled.gated.groups.log_alpha, given.gated.groups.log_alpha)
