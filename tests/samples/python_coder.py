"""The stream of exact changes in plain Python, written from its description alone.

Numbers are Python's integers, so that nothing can overflow unnoticed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from streamlab.exact.coder import WIDTHS, Kind

EXPONENT = {"F32": (23, 0xFF), "BF16": (7, 0xFF), "F16": (10, 0x1F)}


@dataclass
class Model:
    p: int = 1 << 31  # of a 1, of 2**32
    n: int = 0


class PythonWriter:
    """The interval [low, low + range) of a number that grows by units of 16 bits."""

    def __init__(self) -> None:
        self.low, self.range, self.n_units = 0, (1 << 64) - 1, 4
        self.models: defaultdict[tuple[object, ...], Model] = defaultdict(Model)

    def finish(self) -> bytes:
        top = 1 << 48
        number = (self.low + top - 1) // top  # inside the interval, with zeros at its end
        return number.to_bytes(2 * (self.n_units - 3), "big")

    def _narrow(self) -> None:
        while self.range < 1 << 48:
            self.low, self.range, self.n_units = self.low << 16, self.range << 16, self.n_units + 1

    def bit(self, is_one: bool, *name: object, memory: int = 1024) -> None:
        model = self.models[name]
        p = min(max(model.p, 1 << 12), (1 << 32) - 1 - (1 << 12))
        bound = (self.range >> 32) * p
        rate = (2 << 16) // (2 * model.n + 3)
        if is_one:
            self.range = bound
            model.p += ((1 << 32) - 1 - model.p) * rate >> 16
        else:
            self.low, self.range = self.low + bound, self.range - bound
            model.p -= model.p * rate >> 16
        model.n = min(model.n + 1, memory - 1)
        self._narrow()

    def raw(self, value: int, n_bits: int) -> None:
        self.range >>= n_bits
        self.low += value * self.range
        self._narrow()

    def steps(self, steps: int, exponent: int) -> None:
        bucket = steps.bit_length() - 1
        for smaller in range(min(bucket + 1, 4)):
            self.bit(bucket > smaller, "beyond", exponent, smaller)
        if bucket >= 4:
            node = 1
            for k in (4, 3, 2, 1, 0):
                one = bucket >> k & 1
                self.bit(bool(one), "bucket", exponent, node)
                node = 2 * node + one
        told = bucket if bucket < 4 else 2
        found = 1
        for place in range(bucket - 1, bucket - 1 - told, -1):
            one = steps >> place & 1
            if bucket < 4:
                self.bit(bool(one), "within", exponent, bucket, found)
            else:
                self.bit(bool(one), "leading", bucket, found)
            found = 2 * found + one
        left = bucket - told
        while left:
            n = min(left, 16)
            left -= n
            self.raw(steps >> left & ((1 << n) - 1), n)

    def write(self, base: np.ndarray | None, tuned: np.ndarray, kind: Kind) -> None:
        if not kind.n_numbers:
            return
        if base is None or kind.dtype not in EXPONENT:
            width, data = WIDTHS[kind.dtype], tuned.tobytes()
            if base is not None:
                self.bit(base.tobytes() != data, "tensor")
            if base is None or base.tobytes() != data:
                for place, byte in enumerate(data):
                    node = 1
                    for k in range(7, -1, -1):
                        self.bit(bool(byte >> k & 1), "byte", place % width, node)
                        node = 2 * node + (byte >> k & 1)
            return
        n_rows = kind.shape[0] if len(kind.shape) > 1 else 1
        self._floats(base.reshape(n_rows, -1).tolist(), tuned.reshape(n_rows, -1).tolist(), kind)

    def _floats(self, base: list[list[int]], tuned: list[list[int]], kind: Kind) -> None:
        shift, mask = EXPONENT[kind.dtype]
        n_bits = 8 * WIDTHS[kind.dtype]
        sums, activities = [0] * len(base[0]), [0] * len(base[0])
        row_sign, before = 0, True
        self.bit(base != tuned, "tensor")
        if base == tuned:
            return
        for old_row, new_row in zip(base, tuned, strict=True):
            if len(base) > 1:
                self.bit(old_row != new_row, "row", before)
                before = old_row != new_row
            if old_row == new_row:
                continue
            for k, (old, new) in enumerate(zip(old_row, new_row, strict=True)):
                exponent = old >> shift & mask
                activity = activities[k]
                self.bit(old != new, "changed", exponent, activity >> 8, memory=256)
                if old == new:
                    activities[k] = activity - (activity + 15) // 16
                    continue
                activities[k] = activity + (2047 - activity) // 16
                up = (_in_order(new, n_bits) - _in_order(old, n_bits)) % (1 << n_bits)
                negative = up >> (n_bits - 1) == 1
                both = row_sign * sums[k]
                level = min((abs(both) >> 10).bit_length(), 7)
                self.bit(negative, "negative", both < 0, level)
                self.steps((1 << n_bits) - up if negative else up, exponent)
                sign, column = (-1 if negative else 1), sums[k]
                agrees = -sign if row_sign < 0 else sign
                weight = 128 if abs(column) > 1200 else 64
                along = sign * ((column > 0) - (column < 0))
                row_sign += along * weight - _towards_zero(row_sign, 8)
                sums[k] = column + agrees * 256 - _towards_zero(column, 32)


def _in_order(bits: int, n_bits: int) -> int:
    return bits ^ ((1 << (n_bits - 1)) - 1) if bits >> (n_bits - 1) else bits


def _towards_zero(number: int, by: int) -> int:
    return number // by if number >= 0 else -(-number // by)
