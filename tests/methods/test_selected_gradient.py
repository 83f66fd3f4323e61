"""The gradient of linear layers at selected entries alone, beside the whole one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from streamlab.methods.fixed_mask import FixedMask
from streamlab.methods.kernels.native import find_library
from streamlab.methods.kernels.selected_gradient import (
    MOST_SELECTED,
    SelectedProduct,
    selected_gradients,
)
from streamlab.methods.masks.selection import Selection


def product(n_threads: int = 2) -> SelectedProduct:
    library = find_library()
    if library is None:
        pytest.skip("no C compiler")
    return SelectedProduct(library, n_threads)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def some_of(weight: Tensor, n: int) -> Tensor:
    """Return n positions of a weight, its first and last among them."""
    chosen = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(3))[:n]
    chosen[:2] = torch.tensor([0, weight.numel() - 1])
    return chosen.unique()


def collect(
    model: nn.Module,
    weight: nn.Parameter,
    at: Tensor,
    loss: Callable[[], Tensor],
    n_passes: int = 1,
) -> Tensor:
    """Return the gradient that a fixed mask of these entries gets from the loss."""
    gradients = selected_gradients(model, [weight], [at], product())
    mask = FixedMask([weight], [weight.detach().clone()], Selection([at]), gradients=gradients)
    for _ in range(n_passes):
        loss().backward()
    return mask.gradient()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_tokens", [1, 15, 16, 255, 256, 257, 600])
def test_every_entry_is_that_of_the_whole_product(dtype: torch.dtype, n_tokens: int) -> None:
    outputs, inputs = numbers(n_tokens, 37).to(dtype), numbers(n_tokens, 53, seed=1).to(dtype)
    at = some_of(torch.empty(37, 53), 150)
    sums = torch.zeros(at.numel())

    product().add(sums, at, outputs, inputs)

    whole = (outputs.double().t() @ inputs.double()).reshape(-1)[at]
    assert torch.allclose(sums.double(), whole, rtol=1e-5, atol=1e-5 * n_tokens**0.5)


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    outputs, inputs = numbers(300, 40), numbers(300, 30, seed=1)
    at = some_of(torch.empty(40, 30), 90)
    found = [torch.zeros(at.numel()) for _ in range(3)]

    for sums, n_threads in zip(found, (1, 2, 5), strict=True):
        product(n_threads).add(sums, at, outputs, inputs)

    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("bf16", [False, True])
def test_outputs_and_other_gradients_keep_their_bits(bf16: bool) -> None:
    layer, inputs = nn.Linear(24, 40), numbers(4, 9, 24).requires_grad_()
    inputs.grad = torch.zeros_like(inputs)

    def run() -> list[Tensor]:
        inputs.grad = layer.bias.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = layer(inputs)
        outputs.square().sum().backward()
        assert inputs.grad is not None
        assert layer.bias.grad is not None
        return [outputs.detach(), inputs.grad, layer.bias.grad]

    plain = run()
    selected_gradients(layer, [layer.weight], [some_of(layer.weight, 20)], product())

    for found, wanted in zip(run(), plain, strict=True):
        assert torch.equal(found, wanted)


def test_backward_passes_add_up_until_the_gradient_is_read() -> None:
    layer, inputs = nn.Linear(30, 20), numbers(7, 30)
    at = some_of(layer.weight, 40)

    twice = collect(layer, layer.weight, at, lambda: layer(inputs).square().sum(), n_passes=2)

    once = collect(layer, layer.weight, at, lambda: layer(inputs).square().sum())
    assert layer.weight.grad is None
    assert torch.allclose(twice, 2 * once)


def test_a_weight_that_is_used_elsewhere_has_the_sum_of_all_uses() -> None:
    table = nn.Embedding(50, 16)
    layer, words = nn.Linear(16, 50, bias=False), torch.tensor([3, 1, 49])
    layer.weight = table.weight
    model = nn.Sequential(table, layer)
    at = some_of(table.weight, 60)

    found = collect(model, table.weight, at, lambda: model(words).square().sum())

    table.weight.grad, layer.forward = None, nn.Linear.forward.__get__(layer)  # type: ignore[method-assign]
    model(words).square().sum().backward()
    assert table.weight.grad is not None
    assert torch.allclose(found, table.weight.grad.reshape(-1)[at], atol=1e-4)


def test_the_layer_of_a_single_vector_has_a_gradient_too() -> None:
    layer, inputs = nn.Linear(30, 20), numbers(30)
    at = some_of(layer.weight, 40)

    found = collect(layer, layer.weight, at, lambda: layer(inputs).sum())

    assert torch.allclose(found, inputs.repeat(20)[at])


@pytest.mark.parametrize("share", [2 * MOST_SELECTED, 0.0])
def test_weights_with_many_or_no_selected_entries_have_whole_gradients(share: float) -> None:
    layer = nn.Linear(30, 20)
    at = torch.arange(round(share * layer.weight.numel()))

    assert selected_gradients(layer, [layer.weight], [at], product()) == [None]
    assert "forward" not in vars(layer)


def test_layers_that_are_not_linear_have_whole_gradients() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return super().forward(input) + super().forward(input)

    model = nn.ModuleList([Conv1D(30, 20), Doubled(30, 20), nn.LayerNorm(600)])
    weights = [layer.weight for layer in model]

    at = [torch.tensor([5])] * 3
    assert selected_gradients(model, weights, at, product()) == [None] * 3


def test_a_later_selection_replaces_an_earlier_one() -> None:
    layer, inputs = nn.Linear(30, 20), numbers(7, 30)
    first, second = torch.tensor([1, 2]), torch.tensor([0, 599])
    (earlier,) = selected_gradients(layer, [layer.weight], [first], product())

    found = collect(layer, layer.weight, second, lambda: layer(inputs).sum())

    assert earlier is not None
    assert not earlier.take().any()
    assert torch.allclose(found, inputs.sum(0)[[0, 29]], atol=1e-5)


def test_a_released_mask_leaves_the_model_as_it_was() -> None:
    layer, inputs = nn.Linear(30, 20), numbers(7, 30)
    at = torch.tensor([1, 2])
    gradients = selected_gradients(layer, [layer.weight], [at], product())
    base = [layer.weight.detach().clone()]
    mask = FixedMask([layer.weight], base, Selection([at]), gradients=gradients)

    mask.release()
    layer(inputs).sum().backward()

    assert layer.weight.grad is not None
    assert not mask.gradient().eq(0.0).any()
