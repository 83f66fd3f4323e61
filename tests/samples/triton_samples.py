"""A Triton kernel that writes what the gated step samples from."""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from streamlab.methods.kernels.triton_kernels import uniforms


@triton.jit
def write_uniforms(counter, position, found, block: tl.constexpr):
    """Write the u of the step after the counter's, for a block of entries."""
    offsets = tl.arange(0, block)
    tl.store(found + offsets, uniforms(counter, 1, tl.load(position), offsets))
