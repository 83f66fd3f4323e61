"""Entries move the same way through numpy and through torch, which GPUs take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from streamlab.diff import apply
from streamlab.diff.apply import EntryGroup, group_entries
from streamlab.diff.native_entries import LEAST_ENTRIES, native_entries
from streamlab.diff.vector import SparseTensor
from streamlab.errors import DiffError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def group_of_two(dtype: torch.dtype) -> EntryGroup:
    rng = np.random.default_rng(0)
    pairs = []
    for shape, positions in (((3, 4), [0, 5, 11]), ((6,), [2])):
        parameter = nn.Parameter(torch.from_numpy(rng.normal(size=shape)).to(dtype))
        values = rng.normal(size=len(positions)).astype(np.float32)
        pairs.append((parameter, SparseTensor(shape, np.array(positions), values)))
    return group_entries(pairs, "add")


def through_torch(group: EntryGroup) -> EntryGroup:
    positions = tuple(torch.from_numpy(view.positions.copy()) for view in group.views)
    return replace(group, views=(), positions=positions)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_and_torch_read_and_write_the_same_weights(dtype: torch.dtype) -> None:
    ours, theirs = group_of_two(dtype), through_torch(group_of_two(dtype))
    assert ours.views

    old = ours.read()
    new = ours.changed(old)
    ours.write(new)
    theirs.write(new)

    assert torch.equal(old, through_torch(group_of_two(dtype)).read())
    assert not torch.equal(old, new)
    assert torch.equal(ours.read(), new)
    for mine, other in zip(ours.parameters, theirs.parameters, strict=True):
        assert torch.equal(mine, other)


def test_a_model_that_was_given_other_memory_is_followed_there() -> None:
    group = group_of_two(torch.float32)
    old = group.read()
    left = group.parameters[0].data
    before = left.clone()
    group.parameters[0].data = left.clone()

    group.write(old + 1)

    assert torch.equal(group.read(), old + 1)
    assert torch.equal(left, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_entries_move_in_c_as_they_do_in_numpy(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native_entries(LEAST_ENTRIES) is None:
        pytest.skip("no C compiler")
    rng = np.random.default_rng(1)
    weights = [torch.from_numpy(rng.normal(size=n)).to(dtype) for n in (9_000, 50)]
    counts = LEAST_ENTRIES, 20
    kept = [
        np.sort(rng.choice(len(w), n, replace=False)) for w, n in zip(weights, counts, strict=True)
    ]
    tensors = [
        SparseTensor((len(w),), at, rng.normal(size=len(at)).astype(np.float32))
        for w, at in zip(weights, kept, strict=True)
    ]

    def moved() -> tuple[torch.Tensor, list[nn.Parameter]]:
        parameters = [nn.Parameter(w.clone()) for w in weights]
        group = group_entries(list(zip(parameters, tensors, strict=True)), "add")
        old = group.read()
        group.write(group.changed(old))
        return old, parameters

    old, parameters = moved()
    monkeypatch.setattr(apply, "native_entries", lambda _: None)
    plain, others = moved()

    assert torch.equal(old, plain)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_many_entries_are_not_written_to_memory_that_is_not_contiguous() -> None:
    at = np.arange(LEAST_ENTRIES)
    parameter = nn.Parameter(torch.zeros(80, 80))
    tensor = SparseTensor((80, 80), at, np.ones(len(at), np.float32))
    group = group_entries([(parameter, tensor)], "add")
    if native_entries(len(at)) is None:
        pytest.skip("no C compiler")

    parameter.data = torch.zeros(80, 80).t()

    with pytest.raises(DiffError, match="contiguous"):
        group.read()
