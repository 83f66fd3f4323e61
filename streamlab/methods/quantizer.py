"""Training through the quantiser: from a given step on, the model sees the values that are stored.

The straight-through estimator (Bengio et al., 2013): the forward pass uses values rounded to the
grid of a value type of the file format, Adam moves float32 values, and the gradient of the former
is taken for that of the latter. What is stored is then what was trained, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from streamlab.config import Settings, Tree
from streamlab.diff.format.head import round_head
from streamlab.diff.format.values import round_values, widen_values
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.training_loop import clip_scale

GridType = Literal["sign", "ternary", "int2", "int4"]
HeadGridType = Literal["sign", "int2", "int4", "int8"]


class QuantizeSettings(Settings):
    """The grid that values are trained on, and when it begins."""

    type: GridType
    """The value type of the file: `sign` is one bit, a sign times the mean magnitude; `ternary` has
    a zero as well. The scale of each type is per tensor, of `shared` values one for all."""
    start: float = Field(default=0.4, ge=0.0, lt=1.0, validation_alias="from")
    """The share of the fixed-mask steps after which values are quantised. Values need a magnitude
    first."""
    head: HeadGridType | None = None
    """Trains the head through the quantiser in the same steps: a scale for each row of its
    matrices, biases in fp16. Default: the head is rounded to fp16 after the training."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Tree:
        tree: dict[str, Any] = handler(self)
        return {"from" if key == "start" else key: value for key, value in tree.items()}

    def n_before(self, n_steps: int) -> int:
        """Return how many of `n_steps` are taken in float32, fewer than all."""
        return min(round(self.start * n_steps), max(0, n_steps - 1))


def on_grid(values: Tensor, counts: Sequence[int], value_type: GridType) -> Tensor:
    """Return (n,) float32 values as a file of this type holds them; `counts` share a scale each.

    Values that are on the grid stay as they are.
    """
    flat = values.detach().cpu().numpy()
    lengths = np.array(counts, dtype=np.int64)
    codes = round_values(flat, lengths, value_type)
    widened = widen_values(codes, lengths, value_type, zeros=True)
    return torch.from_numpy(widened).to(values.device)


def head_on_grid(values: Tensor, head_type: HeadGridType) -> Tensor:
    """Return a float32 tensor of a head as a file holds it: by rows on a grid, biases in fp16."""
    stored = round_head(
        {"": values.detach().cpu().numpy()}, head_type if values.ndim > 1 else "fp16"
    )
    return torch.from_numpy(stored[""].widen()).to(values.device)


class TrainedHead:
    """The head of a model under Adam; from `quantize` on, the model holds it on a grid."""

    def __init__(self, head: Mapping[str, nn.Parameter], learning_rate: float) -> None:
        self._live = list(head.values())
        self._exact = [p.data for p in self._live]
        self._type: HeadGridType | None = None
        self._optimizer, self._step = adam_optimizer((self._live, learning_rate))

    @property
    def values(self) -> list[Tensor]:
        """Return what Adam moves, float32, not copies."""
        return self._exact

    def state_dict(self) -> dict[str, Any]:
        """Return the values and their optimiser, tensors not copied."""
        return {"values": self._exact, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for exact, given in zip(self._exact, state["values"], strict=True):
            exact.copy_(given)
        self._optimizer.load_state_dict(state["optimizer"])

    def clip(self, gradient: Tensor, clip_norm: float) -> Tensor:
        """Scale the head's gradients by what brings the norm of all to `clip_norm`; return that.

        `gradient`: that of everything else, which is not changed.
        """
        of_head = [p.grad for p in self._live if p.grad is not None]
        norms = [gradient.norm(), *(one.norm() for one in of_head)]
        scale = clip_scale(torch.stack(norms).norm(), clip_norm)
        for one in of_head:
            one.mul_(scale)
        return scale

    def quantize(self, head_type: HeadGridType) -> None:
        """From now on, write values on the grid of this type into the model."""
        self._type = head_type
        self.write()

    def step(self, share: float) -> None:
        """Take a step with this share of the learning rate; write the values into the model."""
        for parameter, exact in zip(self._live, self._exact, strict=True):
            parameter.data = exact
        self._step(share)
        self.write()

    def write(self) -> None:
        """Write the values, on their grid if they have one, into the model."""
        if self._type is not None:
            for parameter, exact in zip(self._live, self._exact, strict=True):
                parameter.data = head_on_grid(exact, self._type)
