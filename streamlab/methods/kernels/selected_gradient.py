"""The gradient of weights of linear layers at their selected entries alone, in C.

The product that a backward pass computes for a weight has all of its entries. Where few of them
are selected, their dot products over the tokens are faster: `selected_gradient.c`.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

# Of a weight's entries. At 1,024 tokens the two products are equally fast at 8% to 12% in
# bfloat16, and from 12% on in float32.
MOST_SELECTED: Final = 0.08
_STRIDE: Final = 272  # floats, that selected_gradient.c needs for each row and column

_PRODUCT: Final = np.dtype(
    [(name, "u8") for name in ("outputs", "inputs", "positions", "sums")]
    + [(name, "i8") for name in ("tokens", "rows", "columns", "is_bf16")]
)


class SelectedProduct:
    """The compiled product, on a fixed number of threads, which do not change its bits."""

    def __init__(self, library: ctypes.CDLL, n_threads: int) -> None:
        self._run = library.selected_gradient
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._run.argtypes = (pointer, pointer, integer, integer)
        self._run.restype = None
        self._threads = ThreadPoolExecutor(n_threads)
        self._n_threads = n_threads
        self._scratch = torch.empty(0)

    def add(self, sums: Tensor, positions: Tensor, outputs: Tensor, inputs: Tensor) -> None:
        """Add entries of outputs^T inputs to `sums`, (k,) float32.

        `positions`: flat, ascending, int64. `outputs`: (tokens, rows), and `inputs`: (tokens,
        columns), of one type, float32 or bfloat16.
        """
        outputs, inputs = outputs.contiguous(), inputs.contiguous()
        (n_tokens, n_rows), n_columns = outputs.shape, inputs.shape[1]
        length = _STRIDE * (n_rows + n_columns)
        if self._scratch.numel() < length * self._n_threads:
            self._scratch = torch.empty(length * self._n_threads)
        numbers = (n_tokens, n_rows, n_columns, outputs.dtype == torch.bfloat16)
        tensors = (outputs, inputs, positions, sums)
        product = np.array([(*(t.data_ptr() for t in tensors), *numbers)], dtype=_PRODUCT)
        ends = np.linspace(0, len(sums), self._n_threads + 1).astype(int).tolist()
        calls = [
            (product.ctypes.data, self._scratch.data_ptr() + 4 * length * i, first, last)
            for i, (first, last) in enumerate(itertools.pairwise(ends))
        ]
        # ctypes releases the GIL.
        others = [self._threads.submit(self._run, *call) for call in calls[1:]]
        self._run(*calls[0])
        for other in others:
            other.result()


class SelectedGradient:
    """The gradient of one weight at some positions, over all linear layers that it belongs to.

    These layers compute the same outputs and the same gradients of their inputs, but leave none in
    the weight's `grad`. What else uses the weight does.
    """

    def __init__(
        self,
        layers: Sequence[nn.Linear],
        positions: Tensor,
        product: SelectedProduct,
    ) -> None:
        """Begin; the layers share one weight, in which `positions` are flat and ascending."""
        self._layers, self._positions, self._product = layers, positions, product
        self._sums = torch.zeros(positions.numel())
        for layer in layers:
            layer.forward = _Forward(layer, self._add)  # type: ignore[method-assign, assignment]

    def take(self) -> Tensor:
        """Return the sum of all backward passes since the last call, (k,) float32."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums

    def release(self) -> None:
        """Give the layers their own forward pass back."""
        for layer in self._layers:
            vars(layer).pop("forward", None)

    def _add(self, outputs: Tensor, inputs: Tensor) -> None:
        if outputs.dtype != torch.bfloat16:
            outputs = outputs.float()
        inputs = inputs.to(outputs.dtype)
        flat = outputs.reshape(-1, outputs.shape[-1]), inputs.reshape(-1, inputs.shape[-1])
        self._product.add(self._sums, self._positions, *flat)


class _Forward:
    """The forward pass of a linear layer whose weight's gradient is handed to `add`."""

    def __init__(self, layer: nn.Linear, add: Callable[[Tensor, Tensor], None]) -> None:
        self._layer, self._add = layer, add

    def __call__(self, inputs: Tensor) -> Tensor:
        weight = self._layer.weight
        if not torch.is_grad_enabled():
            return linear(inputs, weight, self._layer.bias)
        if torch.is_autocast_enabled(inputs.device.type) and inputs.dtype != torch.float64:
            inputs = inputs.to(torch.get_autocast_dtype(inputs.device.type))  # once, for both
        outputs = linear(inputs, weight.detach(), self._layer.bias)
        tapped: Tensor = _Tap.apply(outputs, inputs.detach(), weight, self._add)  # type: ignore[no-untyped-call]
        return tapped


class _Tap(torch.autograd.Function):
    """The identity of outputs, whose gradient `add` gets together with the inputs.

    The weight is an argument so that outputs have a gradient even if nothing else asks for it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        inputs: Tensor,
        weight: Tensor,  # noqa: ARG004 - see above
        add: Callable[[Tensor, Tensor], None],
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.add = add
        ctx.mark_dirty(outputs)  # no copy, and no view, which could not be changed in place
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.add(gradient, *ctx.saved_tensors)
        return gradient, None, None, None


def computes_selected(model: nn.Module) -> bool:
    """Tell whether some layers of a model leave no gradient in their weights."""
    return any(isinstance(vars(module).get("forward"), _Forward) for module in model.modules())


def compute_whole(model: nn.Module) -> None:
    """Let all layers of a model leave gradients in their weights."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _Forward):
            del module.forward


def selected_gradients(
    model: nn.Module,
    weights: Sequence[nn.Parameter],
    positions: Sequence[Tensor],
    product: SelectedProduct,
) -> list[SelectedGradient | None]:
    """Let the linear layers of a model on a CPU compute gradients at `positions` alone.

    None for weights of no linear layer, and for those with so many or no selected entries that
    their whole gradient is computed faster.
    """
    layers: dict[int, list[nn.Linear]] = {}
    compute_whole(model)  # as after an earlier stage
    for module in model.modules():
        # A subclass may use its weight in another way.
        if type(module) is nn.Linear and "forward" not in vars(module):
            layers.setdefault(id(module.weight), []).append(module)
    return [
        SelectedGradient(layers[id(weight)], selected, product)
        if id(weight) in layers and 0 < selected.numel() <= MOST_SELECTED * weight.numel()
        else None
        for weight, selected in zip(weights, positions, strict=True)
    ]
