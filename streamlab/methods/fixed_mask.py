"""Training with a fixed mask: values, moments and gradients have the size of the mask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
import torch
from pydantic import ByteSize, Field, PositiveFloat, model_validator
from torch import Tensor, nn

from streamlab.diff.device_entries import has_triton
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule, Shared, positions
from streamlab.diff.vector import SparseTensor
from streamlab.errors import TrainingError
from streamlab.methods.adam import AdamSettings, AdamState
from streamlab.methods.api import Artifact, FileTypes, Method, SparseChange, TrainingJob
from streamlab.methods.kernels.availability import find_selected_product
from streamlab.methods.kernels.selected_gradient import SelectedGradient, selected_gradients
from streamlab.methods.kernels.triton_step import FixedMaskLaunch
from streamlab.methods.masks.selection import MaskSelector, Selection
from streamlab.methods.quantizer import GridType, QuantizeSettings, TrainedHead, on_grid
from streamlab.methods.rate_rule import DEFAULT_RULE
from streamlab.methods.target_bytes import FittingMask, default_quantizer
from streamlab.methods.training_loop import (
    TakeStep,
    head_values,
    ramp,
    training_mode,
)

DENSITY: Final = 0.005  # the default


class FixedMask:
    """The values of the selected entries under Adam, as one flat vector over all tensors.

    The model's tensors hold the base plus these values; from `quantize` on, plus these values
    rounded to a grid, and from `gate` on, plus their products with gates. Where entries share
    values, there is one value for all of them, and each adds it or its negative. A tensor with no
    selected entry needs no gradient, and gets none.
    """

    def __init__(
        self,
        live: Sequence[nn.Parameter],
        base: Sequence[Tensor],
        selection: Selection,
        *,
        triton: bool = False,
        gradients: Sequence[SelectedGradient | None] = (),
    ) -> None:
        """Reset the `live` tensors to the base and add the selection's start values.

        Steps are taken by `triton` or by PyTorch; shared, gated and quantised values by PyTorch
        alone. `gradients`: where those of the selected entries are found, beside `grad`.
        """
        self._live = list(live)
        self._gradients = list(gradients) or [None] * len(self._live)
        device = self._live[0].device
        self._positions = [p.to(device) for p in selection.positions]
        self._counts = [p.numel() for p in self._positions]
        self._base = torch.cat(
            [b.reshape(-1)[p] for b, p in zip(base, self._positions, strict=True)]
        )
        shared = selection.rule if isinstance(selection.rule, Shared) else None
        self._sharing = None if shared is None else Sharing(shared, device)
        self._scaled = self._counts if shared is None else [shared.n]  # values with one scale
        self._value_type: GridType | None = None
        self._gates: Tensor | None = None
        values = selection.values
        self._state = AdamState(
            torch.zeros(sum(self._scaled), device=device)
            if values is None
            else torch.cat(list(values)).to(device, torch.float32)
        )
        for parameter, original, count in zip(live, base, self._counts, strict=True):
            parameter.data.copy_(original)
            parameter.requires_grad_(count > 0)
        self.write()
        self._launch = None
        if triton:
            self._launch = FixedMaskLaunch([p.data for p in live], self._positions)

    @property
    def values(self) -> Tensor:
        """Return the values that Adam moves, float32, not a copy: one per entry, or shared ones."""
        return self._state.value

    def quantize(self, value_type: GridType) -> None:
        """From now on, write values on the grid of this type, one scale per tensor.

        Raises ValueError where the steps are Triton's.
        """
        if self._launch is not None:
            raise ValueError("values that Triton steps cannot be quantised")
        self._value_type = value_type
        self.write()

    def gate(self, gates: Tensor) -> None:
        """From now on, write values times these gates, of the same shape.

        Raises ValueError where the steps are Triton's.
        """
        if self._launch is not None:
            raise ValueError("values that Triton steps cannot be gated")
        self._gates = gates
        self.write()

    def state_dict(self) -> dict[str, Any]:
        """Return the values and their moments, not copies."""
        return self._state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._state.load_state_dict(state)

    def saliency(self) -> Tensor:
        """Return |w| sqrt(v) of every value, with Adam's second moment v."""
        return self.values.abs() * self._state.moments[1].sqrt()

    def entries(self) -> Tensor:
        """Return what the model's selected entries add to the base, (k,) float32."""
        values = self.values
        if self._value_type is not None:
            values = on_grid(values, self._scaled, self._value_type)
        if self._gates is not None:
            values = values * self._gates
        return values if self._sharing is None else self._sharing.expand(values)

    def gradient(self) -> Tensor:
        """Gather the gradient of the values: of the selected entries, or their signed sums."""
        if self._launch is not None:
            return self._launch.gather(
                [None if p.grad is None else p.grad.contiguous() for p in self._live]
            )
        parts = map(self._of_selected, self._live, self._positions, self._gradients)
        gathered = torch.cat(list(parts))
        return gathered if self._sharing is None else self._sharing.collect(gathered)

    def _of_selected(
        self, parameter: nn.Parameter, selected: Tensor, direct: SelectedGradient | None
    ) -> Tensor:
        """Return the gradient of one tensor's selected entries."""
        found = None if direct is None else direct.take()
        if parameter.grad is None:
            return self.values.new_zeros(selected.numel()) if found is None else found
        dense = parameter.grad.reshape(-1)[selected]
        return dense if found is None else found + dense

    def step(self, gradient: Tensor, settings: AdamSettings, scale: float | Tensor = 1.0) -> None:
        """Take one Adam step by `scale` times the gradient; write the values into the model."""
        if self._launch is None:
            self._state.step(gradient * scale, settings)
            self.write()
            return
        self._launch.step(
            (self._state.value, *self._state.moments),
            self._base,
            gradient,
            settings,
            self._state.count_step(settings),
            torch.as_tensor(scale, device=gradient.device),
        )

    def tensors(self) -> tuple[SparseTensor, ...]:
        """Return positions and what is added there, tensor by tensor."""
        parts = self.entries().split(self._counts)
        return tuple(
            SparseTensor(tuple(parameter.shape), selected.cpu().numpy(), part.cpu().numpy().copy())
            for parameter, selected, part in zip(self._live, self._positions, parts, strict=True)
        )

    def release(self) -> None:
        """Let the model compute whole gradients again."""
        for direct in self._gradients:
            if direct is not None:
                direct.release()

    def write(self) -> None:
        """Write the base plus the values into the model."""
        parts = (self._base + self.entries()).split(self._counts)
        for parameter, selected, part in zip(self._live, self._positions, parts, strict=True):
            if selected.numel():
                parameter.data.view(-1).index_copy_(0, selected, part)


class Sharing:
    """Which value every entry of a mask adds, and with which sign."""

    def __init__(self, rule: Shared, device: torch.device) -> None:
        self._sources = torch.from_numpy(rule.sources()).to(device)
        self._signs = torch.from_numpy(rule.signs()).to(device)
        self._by_value = self._sources.argsort(stable=True)  # every value has as many entries
        self._n = rule.n

    def expand(self, values: Tensor) -> Tensor:
        """Return what every entry adds, (k,), from (n,) values."""
        return values[self._sources] * self._signs

    def collect(self, gradient: Tensor) -> Tensor:
        """Return the gradient of (n,) values from that of (k,) entries: its signed sums."""
        return (gradient * self._signs)[self._by_value].view(self._n, -1).sum(1)


def fixed_mask_step(
    job: TrainingJob, selection: Selection, *, learning_rate: float, in_pytorch: bool = False
) -> tuple[FixedMask, TrainedHead, TakeStep]:
    """Apply a selection to the model; return the mask, the head and what steps their values.

    `in_pytorch`: no step may be Triton's, since values will be gated or quantised.
    """
    live = list(job.backbone.values())
    plain = in_pytorch or isinstance(selection.rule, Shared) or job.training.step == "eager"
    triton = not plain and has_triton(live[0].device)
    gradients: Sequence[SelectedGradient | None] = ()
    product = find_selected_product(job.training.step, live[0].device, job.training.threads)
    if product is not None:
        gradients = selected_gradients(job.model, live, selection.positions, product)
    mask = FixedMask(live, list(job.base.values()), selection, triton=triton, gradients=gradients)
    head = TrainedHead(job.head, job.training.head_learning_rate)

    def take_step(share: float) -> None:
        gradient = mask.gradient()
        scale = head.clip(gradient, job.training.clip_norm)
        head.step(share)
        mask.step(gradient, AdamSettings(learning_rate=learning_rate * share), scale)

    return mask, head, take_step


def train_fixed_mask(
    job: TrainingJob,
    selector: MaskSelector | FittingMask,
    k: int,
    *,
    learning_rate: float,
    quantize: QuantizeSettings | None = None,
) -> SparseChange:
    """Select `k` entries, then train them and the head for the steps that the selector left.

    Every other entry is the base's again. With `quantize`, what is returned is on that grid.
    Raises TrainingError where the loss becomes NaN or infinite, or the selector finds too few
    entries.
    """
    details: dict[str, Any] = {}
    with training_mode(job) as loop:
        selection = loop.remembered("selection", lambda: selector.select(job, k))
        mask, head, take_step = fixed_mask_step(
            job, selection, learning_rate=learning_rate, in_pytorch=quantize is not None
        )
        schedule = ramp(loop.n_left, job.training.warmup_share)
        if quantize is not None:
            n_before = quantize.n_before(len(schedule))
            loop.run("fixed mask", schedule[:n_before], take_step, holds=(mask, head))
            schedule = schedule[n_before:]
            mask.quantize(quantize.type)
            details = {"value_type": quantize.type, "first_quantized_step": loop.n_taken + 1}
            if quantize.head is not None:
                head.quantize(quantize.head)
                details["head_type"] = quantize.head

        def write() -> None:
            mask.write()
            head.write()

        trained = [mask.values, *head.values]
        loop.run_rest(
            "fixed mask", schedule, take_step, trained, on_restore=write, holds=(mask, head)
        )
        mask.release()
    tensors, rule = mask.tensors(), selection.rule
    if selection.within is not None:
        rule = selection.within
        tensors = with_zeros(tensors, rule, job.layout)
    return SparseChange(
        tensors=tensors,
        head=head_values(job),
        summary=loop.summary(
            **selection.details,
            steps_fixed_mask=loop.taken["fixed mask"],
            empty_tensors=sum(p.numel() == 0 for p in selection.positions),
            **details,
        ),
        rule=rule,
    )


def with_zeros(
    tensors: Sequence[SparseTensor], rule: Rule, layout: Layout
) -> tuple[SparseTensor, ...]:
    """Return every entry of a rule: those of `tensors`, which are among them, and zeros."""
    found = []
    for tensor, every in zip(tensors, positions(rule, layout), strict=True):
        values = np.zeros(len(every), dtype=np.float32)
        values[np.searchsorted(every, tensor.positions)] = tensor.values
        found.append(SparseTensor(tensor.shape, every, values))
    return tuple(found)


class FixedMaskMethod(Method):
    """A method that ends in the fixed-mask training."""

    artifact: ClassVar[Artifact] = "diff"

    quantize: QuantizeSettings | None = None
    """Trains the retained entries through the quantiser: `{type: sign, from: 0.4}`, and with
    `head: int4` the head. Default: they are rounded after the training."""

    @property
    def stored_values(self) -> ValueType | None:
        """Return the value type that holds the trained values bit for bit, if they have a grid."""
        return None if self.quantize is None else self.quantize.type


class RetainingMethod(FixedMaskMethod):
    """A method that retains a share of the entries, or as many as fit into a file."""

    target_density: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The share of the backbone's entries that is retained. Default: 0.005, unless `target_bytes`
    is given."""
    target_bytes: Annotated[ByteSize, Field(gt=0)] | None = None
    """In place of `target_density`: the largest size of the whole file, as `10 kB`, with positions,
    values, head and description. As many entries as fit are retained, and where `quantize` is left
    out it is chosen (docs/guides/masks.md)."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_bytes is None:
            if self.target_density is None:
                object.__setattr__(self, "target_density", DENSITY)  # frozen from here on
        elif self.target_density is not None:
            raise ValueError("give either `target_density` or `target_bytes`")
        return self

    def expected_entries(self, layout: Layout) -> int:
        """Return the entries of `target_density`; for `target_bytes` an estimate.

        The latter counts on values of one bit where a rule stands for positions, else 16 bits for
        a value and its position.
        """
        selector = self.selector
        if self.target_density is not None:
            return selector.n_entries(layout, self.target_density)
        bits = 16 if selector.prototype(layout, 1) is None else 1
        most = min(8 * int(self.target_bytes or 0) // bits, selector.most_entries(layout))
        return selector.n_entries(layout, max(1, most) / layout.n_gated)

    @property
    @abstractmethod
    def selector(self) -> MaskSelector:
        """Return what selects the entries."""

    @abstractmethod
    def learning_rate_at(self, density: float) -> float:
        """Return the learning rate of retained entries at a density."""

    def train(self, job: TrainingJob) -> SparseChange:
        """Select a mask and train it and the head.

        Returns exactly `expected_entries` entries of a density, or those that fit into
        `target_bytes`. Raises TrainingError where none do.
        """
        if self.target_bytes is not None:
            return self._train_to_size(job, int(self.target_bytes))
        k = self.expected_entries(job.layout)
        if not k:
            raise TrainingError(
                f"The mask `{self.selector.name}` selects no entry of the base. Let it match more."
            )
        rate = self.learning_rate_at(k / job.layout.n_gated)
        return train_fixed_mask(job, self.selector, k, learning_rate=rate, quantize=self.quantize)

    def _train_to_size(self, job: TrainingJob, target_bytes: int) -> SparseChange:
        quantize = self.quantize or default_quantizer(
            target_bytes, self.selector, job.layout, job.file_types
        )
        values = job.file_types.values if quantize is None else quantize.type
        if self.selector.leaves_zeros:
            values = "ternary"
        types = FileTypes(values, job.file_types.head or "fp16")
        fitting = FittingMask(job, self.selector, target_bytes, quantize, types)
        k = fitting.n_entries()
        rate = self.learning_rate_at(k / job.layout.n_gated)
        trained = train_fixed_mask(job, fitting, k, learning_rate=rate, quantize=quantize)
        return replace(trained, stored_as=types)


class PrunedMethod(MaskSelector, RetainingMethod):
    """A method that is a mask selector plus the fixed-mask training."""

    fixed_mask_learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Of the retained entries. `auto`: 0.01 at a density of 0.5%, elsewhere by the inverse root of
    the density."""

    @property
    def selector(self) -> MaskSelector:
        """Return the method itself."""
        return self

    def learning_rate_at(self, density: float) -> float:
        """Return the setting, or the one that goes with the density."""
        if self.fixed_mask_learning_rate == "auto":
            return DEFAULT_RULE.rate(self.target_density or density)
        return self.fixed_mask_learning_rate
