"""Entries of many tensors, moved by Triton: on a GPU, or interpreted where there is none."""

from __future__ import annotations

import pytest
import torch

from streamlab.diff.device_entries import BLOCK, DeviceEntries, has_triton

pytest.importorskip("triton", reason="no Triton here")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = (1, 15, BLOCK - 1, BLOCK, 3 * BLOCK + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_entries_are_those_of_a_gather_and_a_scatter(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(n, generator=generator).to(DEVICE, dtype) for n in SIZES]
    positions = [torch.randperm(n, generator=generator)[: (n + 1) // 2].sort().values.to(DEVICE)
                 for n in SIZES]  # fmt: skip
    before = [tensor.clone() for tensor in tensors]
    entries = DeviceEntries(positions, SIZES)

    read = entries.read(tensors, dtype)
    entries.write(tensors, read + 1.0)

    expected = [tensor[p] for tensor, p in zip(before, positions, strict=True)]
    assert torch.equal(read, torch.cat(expected))
    for tensor, original, selected in zip(tensors, before, positions, strict=True):
        original[selected] += 1.0
        assert torch.equal(tensor, original)


def test_missing_tensors_are_read_as_zeros() -> None:
    positions = [torch.tensor([0, 2], device=DEVICE), torch.tensor([1], device=DEVICE)]
    tensor = torch.tensor([3.0, 4.0], device=DEVICE)

    found = DeviceEntries(positions, [3, 2]).read([None, tensor], torch.float32)

    assert found.tolist() == [0.0, 0.0, 4.0]


@pytest.mark.parametrize("tensor", [torch.zeros(4), torch.zeros(2, 3).T, torch.zeros(6)[::2]])
def test_tensors_of_another_size_or_memory_order_are_refused(tensor: torch.Tensor) -> None:
    entries = DeviceEntries([torch.tensor([2], device=DEVICE)], [6 if tensor.ndim > 1 else 3])

    with pytest.raises(ValueError, match="contiguous tensor"):
        entries.read([tensor.to(DEVICE) if tensor.is_contiguous() else tensor], torch.float32)


def test_a_cpu_has_no_triton() -> None:
    assert not has_triton(torch.device("cpu"))
