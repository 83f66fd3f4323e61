"""The largest mask whose whole file fits into a number of bytes.

The size of a file is that of a file: positions or a rule, values on their grid and the head are
encoded with the task's description. Before the training the values are not known, so random ones
stand for them, which no code stores in fewer bytes than it stores trained ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.diff.counter_hash import WORD_BITS, words
from streamlab.diff.format.values import INTEGER_BITS
from streamlab.diff.rules import Rule, Shared, stratified
from streamlab.diff.vector import SparseTensor
from streamlab.errors import DiffError, TrainingError
from streamlab.methods.api import FileTypes, SparseChange, TrainingJob, TrainingSummary
from streamlab.methods.masks.selection import MaskSelector, Selection
from streamlab.methods.quantizer import HeadGridType, QuantizeSettings, head_on_grid, on_grid
from streamlab.units import format_bytes

if TYPE_CHECKING:
    from streamlab.diff.format.values import ValueType
    from streamlab.diff.layout import Layout

SMALL_BYTES: Final = 30_000  # up to which one bit a value is best (docs/guides/masks.md)
_ROOM_FOR_RANKING: Final = 1.5  # so many more entries are ranked than surely fit, then cut off
# By which the table of a code may be larger for trained values than for random ones; one bit has
# no table.
_TABLE_BYTES: Final = 8
_OCTAVES: Final = 10.0  # that the magnitudes of random floats span
_VALUES, _HEAD = 1, 2  # steps of the random words


def default_quantizer(
    target_bytes: int, selector: MaskSelector, layout: Layout, types: FileTypes
) -> QuantizeSettings | None:
    """Return the grid to train on where none is set, by size and mask; `types`: what is set.

    Seeded positions cost nothing, so that many values of one bit are best up to 30 kB; a stored
    position costs more than one bit, and earns a value of four. None where the type is set.
    """
    if types.values is not None:
        return None
    small = target_bytes <= SMALL_BYTES
    seeded = selector.prototype(layout, 1) is not None
    head: HeadGridType = "int4" if small else "int8"
    return QuantizeSettings(
        type="sign" if seeded and small else "int4",
        head=None if types.head is not None else head,
    )


@dataclass(frozen=True)
class FittingMask:
    """Selects by another selector as many entries as fit into `target_bytes` with everything."""

    job: TrainingJob
    selector: MaskSelector
    target_bytes: int
    quantize: QuantizeSettings | None
    types: FileTypes  # of the file that is written in the end

    def n_entries(self) -> int:
        """Return how many entries fit, if their positions cost as much as the dearest.

        Raises TrainingError where not even one does.
        """
        layout = self.job.layout
        one = self._rounded(1)
        smallest = self._n_bytes(self._dearest(one))
        if smallest > self.target_bytes:
            raise TrainingError(
                f"`target_bytes` is {format_bytes(self.target_bytes)}, and the smallest file of "
                f"`{self.job.task}` with this mask and these types takes {smallest:,} bytes. Give "
                "at least these, or store the head in fewer bits (`quantize: {type: sign, head: "
                "sign}`)."
            )

        def fits(k: int) -> bool:
            try:
                return self._fits(self._dearest(self._rounded(k)))
            except DiffError:  # more entries than the rule's places have
                return False

        return self._rounded(_largest(fits, one, self.selector.most_entries(layout)))

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select about `k` entries, then as many of them as fit, or as the rule may have more.

        Raises TrainingError as the selector does, and where nothing fits.
        """
        most = self.selector.most_entries(job.layout)
        ranked = self.selector.ranks and self.selector.prototype(job.layout, 1) is None
        chosen = self.selector.select(job, min(most, round(_ROOM_FOR_RANKING * k)) if ranked else k)
        fitted = self._fitted(chosen, most)
        n_selected = sum(part.numel() for part in fitted.positions)
        sized = {
            "target_bytes": self.target_bytes,
            "density": n_selected / job.layout.n_gated,
        }
        return replace(fitted, details={**fitted.details, **sized})

    def _fitted(self, chosen: Selection, most: int) -> Selection:
        if chosen.within is not None:  # all of whose places were counted, with the dearest codes
            return chosen
        k = sum(part.numel() for part in chosen.positions)
        rule, layout = chosen.rule, self.job.layout
        if rule is not None and rule.resized(k) is not None and chosen.values is None:

            def fits(k: int) -> bool:
                try:
                    resized = rule.resized(k)
                    return resized is not None and self._fits(Selection.by(resized, layout))
                except DiffError:  # more entries than the rule's places have, or none
                    return False

            n_fitting = _largest(fits, 0, most)
            resized = rule.resized(n_fitting) if n_fitting else None
            if resized is None:
                raise self._too_large(self._n_bytes(chosen))
            return Selection.by(resized, layout, **chosen.details)
        if self._fits(chosen):
            return chosen
        if rule is not None:
            raise self._too_large(self._n_bytes(chosen))
        order = _order(chosen)
        kept = _largest(lambda n: self._fits(_only(chosen, order[:n])), 0, k - 1)
        return _only(chosen, order[:kept])

    def _fits(self, selection: Selection) -> bool:
        return self._n_bytes(selection) <= self.target_bytes

    def _too_large(self, n_bytes: int) -> TrainingError:
        return TrainingError(
            f"The file of `{self.job.task}` would take {n_bytes:,} bytes with the mask that was "
            f"chosen, more than the {format_bytes(self.target_bytes)} of `target_bytes`. Raise "
            "it, or choose another mask."
        )

    def _rounded(self, k: int) -> int:
        layout = self.job.layout
        return self.selector.n_entries(layout, k / layout.n_gated)

    def _dearest(self, k: int) -> Selection:
        """Return a selection of `k` entries that costs at least as much as any of the selector's.

        Positions spread evenly over the base have no pattern that a code could use.
        """
        layout = self.job.layout
        rule = self.selector.prototype(layout, k)
        if rule is not None:
            return Selection.by(rule, layout)
        places = torch.from_numpy(stratified(0, [layout.n_gated], [k]))
        ends = torch.tensor(layout.sizes).cumsum(0)
        counts = torch.searchsorted(places, ends).diff(prepend=torch.zeros(1, dtype=torch.int64))
        parts = places.split(counts.tolist())
        starts = (ends - torch.tensor(layout.sizes)).tolist()
        return Selection([part - start for part, start in zip(parts, starts, strict=True)])

    def _n_bytes(self, selection: Selection) -> int:
        """Return the bytes of a file of these positions with random values and a random head."""
        counts = [part.numel() for part in selection.positions]
        parts = torch.from_numpy(self._values(selection.rule, counts)).split(counts)
        shapes = self.job.layout.shapes
        tensors = (
            SparseTensor(shape, p.cpu().numpy(), values.numpy())
            for shape, p, values in zip(shapes, selection.positions, parts, strict=True)
        )
        change = SparseChange(
            tensors=tuple(tensors),
            head={name: self._head(p) for name, p in self.job.head.items()},
            summary=TrainingSummary(n_steps=0),
            rule=selection.rule,
        )
        assert self.job.file_bytes is not None  # noqa: S101 - `sized` made sure
        margin = 0 if self.types.values == "sign" else _TABLE_BYTES
        return self.job.file_bytes(change, self.types) + margin

    def _values(self, rule: Rule | None, counts: list[int]) -> NDArray[np.float32]:
        """Return the values of all entries."""
        n_values = rule.n if isinstance(rule, Shared) else sum(counts)
        values = torch.from_numpy(_random_values(n_values, self.types.values))
        if self.quantize is not None:
            groups = counts if rule is None else rule.groups(counts)
            zeros = self.selector.leaves_zeros
            values = on_grid(values, groups, "ternary" if zeros else self.quantize.type)
        return values.numpy() if rule is None else rule.entries_of(values.numpy())

    def _head(self, parameter: Tensor) -> NDArray[np.float32]:
        values = torch.from_numpy(_noise(parameter.numel(), _HEAD).reshape(tuple(parameter.shape)))
        if len(values) == 2 and not bool(parameter.detach()[0].any()):  # the reference class
            values[0] = 0.0
        if self.quantize is not None and self.quantize.head is not None:
            values = head_on_grid(values, self.quantize.head)
        return values.numpy()


def _random_values(n: int, value_type: ValueType | None) -> NDArray[np.float32]:
    """Return n values whose codes are all equally frequent, so that none are coded in fewer bits.

    Magnitudes of floats span ten octaves, as their exponents take bits, too.
    """
    drawn = words(0, _VALUES, n).astype(np.int64)
    if value_type == "ternary":
        return (drawn % 3 - 1).astype(np.float32)
    if value_type is not None and value_type in INTEGER_BITS:
        magnitudes = (drawn >> 1) % (1 << INTEGER_BITS[value_type] - 1) + 1
        return np.where(drawn & 1, magnitudes, -magnitudes).astype(np.float32)
    spread = _noise(n, _VALUES)
    magnitudes = np.exp2(-_OCTAVES * (1.0 - np.abs(spread)))
    return np.where(spread < 0.0, -magnitudes, magnitudes).astype(np.float32)


def _noise(n: int, step: int) -> NDArray[np.float32]:
    """Return n numbers spread evenly from -1 to 1, alike on every machine."""
    return ((words(0, step, n) + 0.5) / 2.0 ** (WORD_BITS - 1) - 1.0).astype(np.float32)


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number from `low` to `high` that fits; `low` does, as all below one do.

    Doubles first: to try a number that is far too large takes long.
    """
    while 0 < 2 * max(1, low) < high:
        if not fits(2 * max(1, low)):
            high = 2 * max(1, low) - 1
            break
        low = 2 * max(1, low)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _order(selection: Selection) -> Tensor:
    """Return the numbers of the entries, those that changed most first, or evenly spread."""
    if selection.values is not None:
        return torch.cat(list(selection.values)).abs().argsort(descending=True, stable=True)
    k = sum(part.numel() for part in selection.positions)
    return torch.from_numpy(words(0, _VALUES, k).astype(np.int64)).argsort(stable=True)


def _only(selection: Selection, kept: Tensor) -> Selection:
    """Return some of the entries of a selection, by their numbers."""
    counts = [part.numel() for part in selection.positions]
    flags = torch.zeros(sum(counts), dtype=torch.bool, device=kept.device)
    flags[kept] = True
    parts = flags.split(counts)
    positions = [p[flag.to(p.device)] for p, flag in zip(selection.positions, parts, strict=True)]
    values = selection.values
    if values is not None:
        values = [v[flag.to(v.device)] for v, flag in zip(values, parts, strict=True)]
    return replace(selection, positions=positions, values=values)
