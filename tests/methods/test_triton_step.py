"""Every kernel against the float64 reference; Triton's on a GPU, and interpreted where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from step_reference import ALPHA_ADAM, SEED, W_ADAM, Comparison, Kernels
from torch import nn

from streamlab.methods.gates.hard_concrete import Densities, GroupGates, Stretch
from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.kernels.gated_weights import GatedWeights
from streamlab.methods.kernels.triton_step import TritonKernels, find_triton

BLOCK = 64  # entries, of Triton's programs in these tests
EDGES = ((0,), (1,), (15,), (16,), (17,), (BLOCK - 1,), (BLOCK,), (BLOCK + 1,))
GROUPS = ((BLOCK,), (3, 40), (2, 3, 4), (4 * BLOCK + 8,))  # all of whole vectors
USED = ((6, 8), (BLOCK + 4,))
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


def start(kernels: Kernels) -> tuple[list[nn.Parameter], GatedWeights]:
    """Gate two tensors, of which the first uses three of its rows only."""
    generator = torch.Generator().manual_seed(3)
    base = [torch.randn(shape, generator=generator).to(device_of(kernels)) for shape in USED]
    live = [nn.Parameter(b + 0.1) for b in base]
    moments = [(torch.zeros_like(b), torch.zeros_like(b)) for b in base]
    gated = GatedWeights(
        live, base, moments, n_moment_steps=1, log_alpha=1.0, stretch=Stretch(),
        groups=GroupGates(len(USED), 0.5, Stretch(), SEED), seed=SEED, kernels=kernels,
        used_rows={0: np.array([1, 2, 4])},
    )  # fmt: skip
    return live, gated


def take_step(live: list[nn.Parameter], gated: GatedWeights) -> Densities:
    for parameter in live:
        parameter.grad = parameter.detach() * 0.5
    live[0].grad[[0, 3, 5]] = 0.0
    return gated.step(W_ADAM, ALPHA_ADAM, l0_coefficient=0.1, product=True, grad_scale=0.5)


def test_steps_with_unused_rows_are_those_of_pytorch(triton_kernels: TritonKernels) -> None:
    (here, expected), (there, found) = start(None), start(triton_kernels)

    for _ in range(3):
        take_step(here, expected)
        take_step(there, found)

    np.testing.assert_allclose(found.settle(), expected.settle(), rtol=1e-5)
    for one, other in zip([*found.w, *found.log_alpha, *there],
                          [*expected.w, *expected.log_alpha, *here], strict=True):  # fmt: skip
        torch.testing.assert_close(one.detach().cpu(), other.detach(), rtol=1e-5, atol=1e-5)


def test_a_step_returns_the_densities_of_the_step_before(triton_kernels: TritonKernels) -> None:
    live, gated = start(triton_kernels)
    before = gated.settle()

    assert take_step(live, gated) == before
    after = gated.settle()
    assert after != before
    assert take_step(live, gated) == after


def test_steps_repeat_bit_for_bit(triton_kernels: TritonKernels) -> None:
    runs = [start(triton_kernels) for _ in range(2)]
    for live, gated in runs:
        for _ in range(2):
            take_step(live, gated)

    (_, one), (_, other) = runs
    assert one.settle() == other.settle()
    pairs = zip([*one.w, *one.log_alpha], [*other.w, *other.log_alpha], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_cpu_has_no_triton_kernels() -> None:
    assert find_triton(torch.device("cpu")) is None
