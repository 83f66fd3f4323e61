"""The device code that reads and writes entries of many tensors; `device_entries.py` launches it.

`blocks` has rows of tensor, first entry and count. `addresses` are those of the tensors, 0 for
none. `dtype` is an integer of the width of an element: bits are moved, not numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _block(blocks, addresses, positions, block: tl.constexpr, dtype: tl.constexpr):
    row = blocks + tl.program_id(0) * 3
    tensor, first, count = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    offsets = first + tl.arange(0, block)
    here = offsets < first + count
    address = tl.load(addresses + tensor)
    places = tl.load(positions + offsets, mask=here, other=0)
    entries = address.to(tl.pointer_type(dtype)) + places
    return entries, offsets, here, here & (address != 0)


@triton.jit
def read_entries(blocks, addresses, positions, values, block: tl.constexpr, dtype: tl.constexpr):
    """Copy one block of entries into the vector `values`; 0 where there is no tensor."""
    entries, offsets, here, known = _block(blocks, addresses, positions, block, dtype)
    tl.store(values + offsets, tl.load(entries, mask=known, other=0), mask=here)


@triton.jit
def write_entries(blocks, addresses, positions, values, block: tl.constexpr, dtype: tl.constexpr):
    """Copy one block of the vector `values` to its entries."""
    entries, offsets, here, known = _block(blocks, addresses, positions, block, dtype)
    tl.store(entries, tl.load(values + offsets, mask=here, other=0), mask=known)
