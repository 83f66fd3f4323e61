"""Whole numbers <-> LEB128: seven bits a byte, lowest first, the top bit for 'more'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.errors import DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_VARINT_BYTES = 5  # a number below 2**35


def write_varints(numbers: Iterable[int]) -> bytes:
    """Write each number, 0 or more, in its shortest form."""
    written = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            written.append(rest & 0x7F | 0x80)
            rest >>= 7
        written.append(rest)
    return bytes(written)


def read_varints(data: bytes, rule: str) -> list[int]:
    """Read numbers until the bytes end.

    Raises DiffFormatError naming `rule` where one is cut off, over five bytes or not in its
    shortest form.
    """
    numbers: list[int] = []
    number = length = 0
    for byte in data:
        number |= (byte & 0x7F) << (7 * length)
        length += 1
        if byte & 0x80:
            if length == MAX_VARINT_BYTES:
                raise DiffFormatError(rule, f"number {len(numbers)} is over 5 bytes long.")
            continue
        if length > 1 and byte == 0:
            raise DiffFormatError(rule, f"number {len(numbers)} has a needless zero byte.")
        numbers.append(number)
        number = length = 0
    if length:
        raise DiffFormatError(rule, f"the last of {len(numbers) + 1} numbers is cut off.")
    return numbers
