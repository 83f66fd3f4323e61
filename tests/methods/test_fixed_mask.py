"""The fixed-mask stage: selected entries are trained, all others are the base bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamlab.diff.layout import Layout
from streamlab.diff.rules import Shared, positions
from streamlab.methods.adam import AdamSettings
from streamlab.methods.fixed_mask import FixedMask
from streamlab.methods.masks.selection import Selection
from streamlab.methods.rate_rule import DEFAULT_RULE

RATES = AdamSettings(learning_rate=0.05, epsilon=1e-6)


class Case:
    """Three tensors of a base, of which the second keeps nothing."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        self.base = [torch.randn(shape, generator=generator) for shape in ((3, 5), (7,), (2, 2))]
        self.positions = [torch.tensor(at, dtype=torch.int64) for at in ([0, 7, 14], [], [3])]
        self.values = [torch.randn(at.numel(), generator=generator) for at in self.positions]
        # The model comes from another stage, with numbers of its own everywhere.
        self.live = [nn.Parameter(torch.randn(b.shape, generator=generator)) for b in self.base]
        self.mask = FixedMask(self.live, self.base, Selection(self.positions, self.values))
        self.generator = generator

    def backward(self) -> list[Tensor]:
        gradients = [torch.randn(b.shape, generator=self.generator) for b in self.base]
        for parameter, gradient in zip(self.live, gradients, strict=True):
            parameter.grad = gradient.clone() if parameter.requires_grad else None
        return gradients

    def check_reconstruction(self) -> None:
        """Check that base and kept values give the live tensors, bit for bit."""
        for parameter, base, kept in zip(self.live, self.base, self.mask.tensors(), strict=True):
            rebuilt = base.numpy().copy().reshape(-1)
            rebuilt[kept.positions] += kept.values
            assert rebuilt.tobytes() == parameter.detach().numpy().tobytes()


def test_the_base_is_put_back_and_the_values_on_it() -> None:
    case = Case()

    case.check_reconstruction()
    for kept, at, values in zip(case.mask.tensors(), case.positions, case.values, strict=True):
        assert np.array_equal(kept.positions, at.numpy())
        assert np.array_equal(kept.values, values.numpy())


def test_a_step_changes_every_selected_entry_and_no_other() -> None:
    case = Case()
    before = [parameter.detach().clone() for parameter in case.live]

    case.backward()
    case.mask.step(case.mask.gradient(), RATES)

    changed = [
        (parameter.detach() != old).reshape(-1).nonzero().squeeze(-1).tolist()
        for parameter, old in zip(case.live, before, strict=True)
    ]
    assert changed == [at.tolist() for at in case.positions]
    case.check_reconstruction()


def test_a_tensor_with_nothing_selected_needs_no_gradient() -> None:
    case = Case()
    held = case.live[1]
    held.requires_grad_(True)

    FixedMask(case.live, case.base, Selection(case.positions, case.values))

    assert [parameter.requires_grad for parameter in case.live] == [True, False, True]
    assert torch.equal(held.detach(), case.base[1])


def test_the_gradient_is_gathered_tensor_by_tensor() -> None:
    case = Case()
    gradients = case.backward()

    gathered = case.mask.gradient()

    expected = [g.reshape(-1)[at] for g, at in zip(gradients, case.positions, strict=True)]
    assert torch.equal(gathered, torch.cat(expected))


def test_a_tensor_that_took_no_part_has_a_gradient_of_zero() -> None:
    case = Case()
    gradients = case.backward()
    case.live[0].grad = None

    assert case.mask.gradient().tolist() == [0.0, 0.0, 0.0, float(gradients[2][1, 1])]


def test_steps_are_those_of_dense_adam_under_a_mask() -> None:
    case = Case()
    masks = [torch.zeros(b.numel()) for b in case.base]
    dense = [nn.Parameter(torch.zeros(b.numel(), dtype=torch.float64)) for b in case.base]
    for mask, delta, at, values in zip(masks, dense, case.positions, case.values, strict=True):
        mask[at] = 1.0
        delta.data[at] = values.double()
    adam = torch.optim.Adam(dense, lr=RATES.learning_rate, eps=RATES.epsilon)

    for _ in range(10):
        gradients = case.backward()
        case.mask.step(case.mask.gradient(), RATES)
        for delta, mask, gradient in zip(dense, masks, gradients, strict=True):
            delta.grad = (gradient.reshape(-1) * mask).double()
        adam.step()

    for kept, delta in zip(case.mask.tensors(), dense, strict=True):
        np.testing.assert_allclose(kept.dense().reshape(-1), delta.detach(), rtol=1e-5, atol=1e-6)
    case.check_reconstruction()


def test_values_are_returned_as_copies() -> None:
    case = Case()
    taken = case.mask.tensors()[0].values.copy()
    handed_out = case.mask.tensors()[0].values

    case.backward()
    case.mask.step(case.mask.gradient(), RATES)

    assert np.array_equal(handed_out, taken)
    assert not np.array_equal(case.mask.tensors()[0].values, taken)


def test_bases_in_any_memory_order_are_read_right() -> None:
    base = torch.arange(12.0).reshape(4, 3).T
    live = nn.Parameter(torch.zeros(3, 4))

    FixedMask([live], [base], Selection([torch.tensor([1, 5])], [torch.tensor([0.5, 0.25])]))

    expected = base.clone().contiguous()
    expected.view(-1)[[1, 5]] += torch.tensor([0.5, 0.25])
    assert torch.equal(live.detach(), expected)


@pytest.mark.parametrize("n_steps", [1, 5])
def test_the_learning_rate_is_given_at_every_step(n_steps: int) -> None:
    case = Case()
    seen = [case.values[0].numpy().tobytes()]

    for rate in (0.0, 0.05, 0.0):
        for _ in range(n_steps):
            case.backward()
            case.mask.step(case.mask.gradient(), AdamSettings(learning_rate=rate))
        seen.append(case.mask.tensors()[0].values.tobytes())

    assert seen[0] == seen[1]
    assert seen[1] != seen[2]
    assert seen[2] == seen[3]


def test_a_step_of_all_retained_entries_is_as_long_however_many_they_are() -> None:
    densities = (1e-4, 0.005, 0.05, 1.0)

    lengths = [DEFAULT_RULE.rate(density) * density**0.5 for density in densities]

    assert DEFAULT_RULE.rate(0.005) == 1e-2
    assert lengths == pytest.approx([lengths[0]] * 4)


def test_the_gradient_of_shared_values_is_that_of_the_dense_expansion() -> None:
    shapes = ((6, 20), (7,), (9, 15))
    layout = Layout("", ("a", "b", "c"), shapes)
    rule = Shared(11, (True, False, True), 40, 5)
    generator = torch.Generator().manual_seed(1)
    base = [torch.randn(shape, generator=generator) for shape in shapes]
    live = [nn.Parameter(b.clone()) for b in base]
    mask = FixedMask(live, base, Selection.by(rule, layout))
    mask.values.copy_(torch.randn(40, generator=generator))
    mask.write()

    values = mask.values.double().requires_grad_(requires_grad=True)
    entries = values[torch.from_numpy(rule.sources())] * torch.from_numpy(rule.signs()).double()
    parts = entries.split([len(at) for at in positions(rule, layout)])
    loss = torch.zeros((), dtype=torch.float64)
    for b, at, part, p in zip(base, positions(rule, layout), parts, live, strict=True):
        dense = torch.zeros(b.numel(), dtype=torch.float64)
        dense = dense.index_put((torch.from_numpy(at.copy()),), part)
        theta = b.reshape(-1).double() + dense
        torch.testing.assert_close(theta.float(), p.detach().reshape(-1))
        loss = loss + theta.sin().sum()
        if p.requires_grad:
            p.grad = p.detach().cos()
    (wanted,) = torch.autograd.grad(loss, values)

    torch.testing.assert_close(mask.gradient().double(), wanted, rtol=1e-5, atol=1e-5)
    before = mask.values.clone()
    mask.step(mask.gradient(), RATES)
    assert int((mask.values != before).sum()) == 40
    stored = np.concatenate([tensor.values for tensor in mask.tensors()])
    assert np.array_equal(rule.values_of(stored), mask.values.numpy())
