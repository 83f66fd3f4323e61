"""Every kernel against the float64 reference; Triton's on a GPU, and interpreted where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from step_reference import SEED, Comparison, Kernels

from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.kernels.triton_step import TritonKernels, find_triton

BLOCK = 64  # entries, of Triton's programs in these tests
EDGES = ((0,), (1,), (15,), (16,), (17,), (BLOCK - 1,), (BLOCK,), (BLOCK + 1,))
GROUPS = ((BLOCK,), (3, 40), (2, 3, 4), (4 * BLOCK + 8,))  # all of whole vectors
SHAPES = pytest.mark.parametrize("shapes", [EDGES, GROUPS], ids=["edges", "whole vectors"])


def device_of(kernels: Kernels) -> str:
    on_gpu = isinstance(kernels, TritonKernels) and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


@SHAPES
@pytest.mark.parametrize("structured", [False, True], ids=["unstructured", "structured"])
@pytest.mark.parametrize("missing", [(), (2, 3)], ids=["all gradients", "two missing"])
def test_a_gated_step_is_that_of_the_reference(
    every_kernel: Kernels,
    shapes: tuple[tuple[int, ...], ...],
    structured: bool,
    missing: tuple[int, ...],
) -> None:
    comparison = Comparison(shapes, missing=missing, device=device_of(every_kernel))

    errors = comparison.gated(every_kernel, structured=structured)

    assert max(errors.values()) < 1e-5, errors


@SHAPES
@pytest.mark.parametrize("missing", [(), (1, 3)], ids=["all gradients", "two missing"])
def test_fixed_mask_steps_are_those_of_the_reference(
    every_kernel: Kernels,
    shapes: tuple[tuple[int, ...], ...],
    missing: tuple[int, ...],
) -> None:
    comparison = Comparison(shapes, missing=missing, device=device_of(every_kernel))

    errors = comparison.fixed_mask(triton=isinstance(every_kernel, TritonKernels), density=0.4)

    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("position", [0, 1, 7 << 32, (1 << 40) + 12345, (1 << 48) + 3])
@pytest.mark.parametrize("step", [0, 1, 70_000])
def test_gates_are_sampled_from_the_same_bits(
    triton_kernels: TritonKernels, position: int, step: int
) -> None:
    from triton_samples import write_uniforms

    device = device_of(triton_kernels)
    counter = torch.tensor([step, SEED & 0xFFFFFFFF, SEED >> 32], device=device)
    found = torch.zeros(BLOCK, device=device)

    write_uniforms[1,](counter, torch.tensor([position], device=device), found, block=BLOCK)

    expected = uniforms(SEED, step + 1, position, BLOCK, torch.device("cpu"))
    assert np.array_equal(found.cpu().numpy(), expected.numpy())


def test_a_cpu_has_no_triton_kernels() -> None:
    assert find_triton(torch.device("cpu")) is None
