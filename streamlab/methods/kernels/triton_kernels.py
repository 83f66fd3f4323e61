"""The device code of the Triton steps; `triton_step.py` launches it.

The formulas are those of `step.c`. A block is a run of entries of one tensor, and one program
takes it. Multiplications and additions may be fused and divisions are approximate, so the last
bits differ from those of the other steps; u is equal to the bit. Sums have a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _absorb(state, word):
    k = word * 0xCC9E2D51
    k = ((k << 15) | (k >> 17)) * 0x1B873593
    state = state ^ k
    state = (state << 13) | (state >> 19)
    return state * 5 + 0xE6546B64


@triton.jit
def uniforms(counter, step, position, offsets):
    """Return `counter_rng.uniforms` of the entries at `position` + `offsets`.

    `counter` points to three int64: the step, and the low and the high half of the seed; `step`
    is added to the first.
    """
    state = tl.load(counter + 1).to(tl.uint32)
    state = _absorb(state, tl.load(counter + 2).to(tl.uint32))
    state = _absorb(state, (tl.load(counter) + step).to(tl.uint32))
    state = _absorb(state, (position >> 32).to(tl.uint32))
    h = _absorb(state, position.to(tl.uint32) + offsets.to(tl.uint32)) ^ 16
    h = (h ^ (h >> 16)) * 0x85EBCA6B
    h = (h ^ (h >> 13)) * 0xC2B2AE35
    h = h ^ (h >> 16)
    return (h >> 9).to(tl.int32).to(tl.float32) * 1.1920928955078125e-07 + 5.9604644775390625e-08


@triton.jit
def _entries(pointers, column, first, offsets, aligned: tl.constexpr):
    """Return the addresses of a block's entries in the tensor of a column of the pointer table."""
    start = tl.load(pointers + column).to(tl.pointer_type(tl.float32))
    addresses = start + (first + offsets)
    if aligned:  # to 16 bytes, so that four entries are moved at once
        addresses = tl.multiple_of(addresses, 16)
    return addresses


@triton.jit
def _moments(mean, square, gradient, beta1, beta2):
    mean = mean * beta1 + gradient * (1.0 - beta1)
    square = square * beta2 + gradient * gradient * (1.0 - beta2)
    return mean, square


@triton.jit
def _clamp(x):
    return tl.where(x < 0.0, 0.0, tl.where(x > 1.0, 1.0, x))


@triton.jit
def gated_step(
    blocks,
    pointers,
    counter,
    groups,
    scalars,
    grad_scale,
    sums,
    block: tl.constexpr,
    aligned: tl.constexpr,
):
    """Take the step of one block of entries.

    `blocks`: rows of tensor, place, first, count and position. `pointers`: rows of live, base,
    grad (0 for none), w, its two moments, log_alpha, its two moments. `groups`: rows of the
    gate of this step, of the next, and the penalty. `scalars`: SCALARS without `grad_scale`,
    which is a tensor of one element. `sums`: rows of the four sums of SUMS.
    """
    row = blocks + tl.program_id(0) * 5
    tensor, place, first = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    count, position = tl.load(row + 3), tl.load(row + 4)
    if aligned:
        count = tl.multiple_of(count, 4)
    group = groups + tensor * 3
    group_now, group_next = tl.load(group), tl.load(group + 1)
    penalty = tl.load(group + 2)
    w_rate, w_first, w_second = tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2)
    a_rate, a_first, a_second = tl.load(scalars + 4), tl.load(scalars + 5), tl.load(scalars + 6)
    w_epsilon, a_epsilon = tl.load(scalars + 3), tl.load(scalars + 7)
    shift, beta1, beta2 = tl.load(scalars + 8), tl.load(scalars + 9), tl.load(scalars + 10)
    low, width, odds = tl.load(scalars + 11), tl.load(scalars + 12), tl.load(scalars + 13)
    scale = tl.load(grad_scale).to(tl.float32)

    offsets = tl.arange(0, block)
    here = offsets < count
    table = pointers + tensor * 9
    has_grad = tl.load(table + 2) != 0
    at_base = _entries(table, 1, place, offsets, aligned)
    at_grad = _entries(table, 2, place, offsets, aligned)
    at_w = _entries(table, 3, first, offsets, aligned)
    at_w_mean = _entries(table, 4, first, offsets, aligned)
    at_w_square = _entries(table, 5, first, offsets, aligned)
    at_alpha = _entries(table, 6, first, offsets, aligned)
    at_alpha_mean = _entries(table, 7, first, offsets, aligned)
    at_alpha_square = _entries(table, 8, first, offsets, aligned)
    g = tl.load(at_grad, mask=here & has_grad, other=0.0) * scale
    w = tl.load(at_w, mask=here, other=0.0)
    w_mean = tl.load(at_w_mean, mask=here, other=0.0)
    w_square = tl.load(at_w_square, mask=here, other=0.0)
    alpha = tl.load(at_alpha, mask=here, other=0.0)
    alpha_mean = tl.load(at_alpha_mean, mask=here, other=0.0)
    alpha_square = tl.load(at_alpha_square, mask=here, other=0.0)
    base = tl.load(at_base, mask=here, other=0.0)

    e = tl.exp(-alpha)
    u = uniforms(counter, 0, position, offsets)
    s = u / (u + (1.0 - u) * e)
    stretched = s * width + low
    z = _clamp(stretched)
    slope = tl.where(z == stretched, s * (1.0 - s) * width, 0.0)
    p = 1.0 / (1.0 + e * odds)
    g_z = g * w
    gradient = g_z * z

    w_mean, w_square = _moments(w_mean, w_square, g * z * group_now, beta1, beta2)
    w -= w_rate * (w_mean * w_first) / (tl.sqrt(w_square * w_second) + w_epsilon)
    g_alpha = g_z * group_now * slope + penalty * p * (1.0 - p)
    alpha_mean, alpha_square = _moments(alpha_mean, alpha_square, g_alpha, beta1, beta2)
    alpha -= a_rate * (alpha_mean * a_first) / (tl.sqrt(alpha_square * a_second) + a_epsilon)
    alpha += shift

    e = tl.exp(-alpha)
    u = uniforms(counter, 1, position, offsets)
    s = u / (u + (1.0 - u) * e)
    z = _clamp(s * width + low)
    p = 1.0 / (1.0 + e * odds)
    certain = 1.0 / (1.0 + e) * width + low > 0.0

    tl.store(at_w, w, mask=here)
    tl.store(at_w_mean, w_mean, mask=here)
    tl.store(at_w_square, w_square, mask=here)
    tl.store(at_alpha, alpha, mask=here)
    tl.store(at_alpha_mean, alpha_mean, mask=here)
    tl.store(at_alpha_square, alpha_square, mask=here)
    at_live = _entries(table, 0, place, offsets, aligned)
    tl.store(at_live, base + z * group_next * w, mask=here)

    row_of_sums = sums + tl.program_id(0) * 4
    tl.store(row_of_sums, tl.sum(gradient))
    tl.store(row_of_sums + 1, tl.sum(tl.where(here, p, 0.0)))
    tl.store(row_of_sums + 2, tl.sum(tl.where(here & certain, 1.0, 0.0)))
    tl.store(row_of_sums + 3, tl.sum(tl.where(here, p * (1.0 - p), 0.0)))


@triton.jit
def add_up(sums, bounds, totals, chunk: tl.constexpr):
    """Add up the sums of one tensor's blocks in float64, in their order.

    `bounds` points to the numbers of the first block of every tensor and of the end.
    """
    tensor = tl.program_id(0)
    begin, end = tl.load(bounds + tensor), tl.load(bounds + tensor + 1)
    rows, columns = tl.arange(0, chunk)[:, None], tl.arange(0, 4)[None, :]
    total = tl.zeros((chunk, 4), tl.float64)
    at = begin
    while at < end:
        found = tl.load(sums + (at + rows) * 4 + columns, mask=at + rows < end, other=0.0)
        total += found.to(tl.float64)
        at += chunk
    tl.store(totals + tensor * 4 + tl.arange(0, 4), tl.sum(total, axis=0))


@triton.jit
def fixed_mask_step(
    blocks,
    addresses,
    positions,
    base,
    gradient,
    value,
    mean,
    square,
    grad_scale,
    scalars,
    block: tl.constexpr,
):
    """Take the Adam step of one block of the retained entries and write them into the model.

    `blocks`: rows of tensor, first and count. `addresses`: of the model's tensors. `scalars`:
    learning rate, the two corrections, epsilon, beta1, beta2.
    """
    row = blocks + tl.program_id(0) * 3
    tensor, first, count = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    rate, correction1, correction2 = tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2)
    epsilon, beta1, beta2 = tl.load(scalars + 3), tl.load(scalars + 4), tl.load(scalars + 5)
    scale = tl.load(grad_scale).to(tl.float32)
    offsets = first + tl.arange(0, block)
    here = offsets < first + count
    g = tl.load(gradient + offsets, mask=here, other=0.0) * scale
    m = tl.load(mean + offsets, mask=here, other=0.0)
    v = tl.load(square + offsets, mask=here, other=0.0)
    x = tl.load(value + offsets, mask=here, other=0.0)
    m, v = _moments(m, v, g, beta1, beta2)
    x -= rate * (m * correction1) / (tl.sqrt(v * correction2) + epsilon)
    tl.store(mean + offsets, m, mask=here)
    tl.store(square + offsets, v, mask=here)
    tl.store(value + offsets, x, mask=here)
    live = tl.load(addresses + tensor).to(tl.pointer_type(tl.float32))
    places = tl.load(positions + offsets, mask=here, other=0)
    original = tl.load(base + offsets, mask=here, other=0.0)
    tl.store(live + places, original + x, mask=here)
