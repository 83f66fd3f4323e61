"""Diffs of pruned models: entries are kept weights, all others of their tensors become 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamlab.diff.apply import apply, plan
from streamlab.diff.format.container import decode, encode, rounded
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError

SHAPES = ((6, 5), (5,), (4, 3), (2, 2))


class Net(nn.Module):
    """Four parameters, of which a diff leaves the third out and keeps the second in full."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        rng = np.random.default_rng(5)
        for number, shape in enumerate(SHAPES):
            start = torch.from_numpy(rng.normal(size=shape)).to(dtype)
            self.register_parameter(f"t{number}", nn.Parameter(start))


def pruned(**changes: object) -> DiffVector:
    entries = (
        ([1, 7, 8, 29], [0.5, 0.0, -0.25, 1e-3]),
        (range(5), [0.0, 0.1, -0.1, 0.2, 0.3]),
        ([], []),
        ([2], [0.75]),
    )
    tensors = tuple(
        SparseTensor(shape, np.array(at, np.int64), np.array(values, np.float32))
        for shape, (at, values) in zip(SHAPES, entries, strict=True)
    )
    layout = Layout("ab" * 32, ("t0", "t1", "t2", "t3"), SHAPES)
    return replace(DiffVector(layout, tensors, {}, {"name": "t"}, "prune"), **changes)


def bits(model: nn.Module) -> list[bytes]:
    return [p.detach().view(torch.uint8).numpy().tobytes() for p in model.parameters()]


def expected(base: Tensor, kept: SparseTensor) -> Tensor:
    """Prune one tensor entry by entry."""
    if not len(kept):
        return base.clone()
    new, values = torch.zeros_like(base), torch.from_numpy(kept.values.copy())
    for place, value in zip(kept.positions.tolist(), values, strict=True):
        wide = base.view(-1)[place].to(torch.promote_types(base.dtype, torch.float32))
        new.view(-1)[place] = (wide + value).to(base.dtype)
    return new


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_kept_weights_are_changed_and_all_others_of_their_tensors_become_zero(
    dtype: torch.dtype,
) -> None:
    model, diff = Net(dtype), pruned()
    before = [p.detach().clone() for p in model.parameters()]
    untouched = bits(model)

    on = apply(model, diff)

    wanted = [expected(base, kept) for base, kept in zip(before, diff.tensors, strict=True)]
    assert all(
        torch.equal(p.detach(), new) for p, new in zip(model.parameters(), wanted, strict=True)
    )
    differ = [(new != old).sum() for new, old in zip(wanted, before, strict=True)]
    assert on.n_changed == sum(map(int, differ))
    assert on.n_changed > diff.n_entries  # zeros are changes too
    on.revert()
    assert bits(model) == untouched


def test_one_plan_serves_many_times() -> None:
    model = Net(torch.float32)
    untouched, matched = bits(model), plan(model, pruned())

    first = matched.put_on()
    with_diff = bits(model)
    first.revert()
    matched.put_on().revert()
    matched.put_on()

    assert bits(model) == with_diff != untouched


def test_a_weight_that_is_kept_as_it_is_stays_an_entry() -> None:
    diff = pruned()

    assert diff.counts == (4, 5, 0, 1)
    assert replace(diff, mode="add").counts == (3, 4, 0, 1)


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_a_file_holds_the_entries_and_the_mode(value_type: ValueType, codec: str) -> None:
    diff = pruned()
    data = encode(diff, value_type=value_type, codec=codec).data  # type: ignore[arg-type]

    again = decode(data, diff.layout)

    assert again.mode == "prune"
    assert all(
        np.array_equal(one.positions, other.positions)
        for one, other in zip(diff.tensors, again.tensors, strict=True)
    )
    assert again == rounded(diff, value_type=value_type)
    if value_type == "fp32":
        assert again == diff
    kept = again.tensors[0].values[1]
    if value_type.startswith("int"):
        assert kept != 0  # these types have no zero; it becomes their smallest magnitude
        assert abs(kept) == np.abs(again.tensors[0].values).min()
    else:
        assert kept == 0


def test_a_file_applies_to_a_fresh_base_as_the_diff_does_bit_for_bit() -> None:
    diff = pruned()
    one, other = Net(torch.float32), Net(torch.float32)

    apply(one, diff)
    apply(other, decode(encode(diff, value_type="fp32").data, diff.layout))

    assert bits(one) == bits(other)


def test_positions_of_a_pruned_model_cost_no_more_than_its_mask_in_bits(
    draw_diff: Callable[..., DiffVector],
) -> None:
    drawn = draw_diff(2, shapes=((384, 384), (1536, 384)), density=0.15, head=False)
    diff = replace(drawn, mode="prune")
    p = diff.density

    entropy = -diff.n_gated * (p * np.log2(p) + (1 - p) * np.log2(1 - p))

    assert 8 * encode(diff).parts.positions < 1.03 * entropy


def test_a_diff_that_prunes_nothing_and_changes_nothing_is_refused() -> None:
    model = Net(torch.float32)
    none = np.zeros(0, np.int64), np.zeros(0, np.float32)
    full = SparseTensor((5,), np.arange(5), np.zeros(5, np.float32))
    tensors = tuple(full if shape == (5,) else SparseTensor(shape, *none) for shape in SHAPES)

    with pytest.raises(DiffError, match="changes no weight"):
        apply(model, pruned(tensors=tensors))
