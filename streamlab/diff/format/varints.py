"""Non-negative numbers as LEB128: seven bits a byte, lowest first, in the shortest form."""

from __future__ import annotations

from collections.abc import Iterable

from streamlab.errors import DiffFormatError

MAX_VARINT_BYTES = 5  # a number below 2**35
_MAX_LONG_BYTES = 8  # a number below 2**56


def write_varints(numbers: Iterable[int]) -> bytes:
    """Encode non-negative numbers."""
    written = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            written.append(rest & 0x7F | 0x80)
            rest >>= 7
        written.append(rest)
    return bytes(written)


def read_varints(data: bytes, rule: str) -> list[int]:
    """Decode numbers until the bytes end.

    Raises DiffFormatError naming `rule` for one that is incomplete, over five bytes long or not
    in its shortest form.
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


class ByteReader:
    """Bytes from outside, read from the start; every error is a DiffFormatError naming `rule`."""

    def __init__(self, data: bytes | memoryview, rule: str, at: int = 0) -> None:
        self._data = memoryview(data)
        self._rule = rule
        self.at = at

    @property
    def n_left(self) -> int:
        """Return the number of bytes that were not read."""
        return len(self._data) - self.at

    def take(self, count: int, what: str) -> memoryview:
        """Return the next `count` bytes without a copy."""
        if count > self.n_left:
            raise DiffFormatError(
                self._rule, f"{what} takes {count} bytes, but {self.n_left} are left."
            )
        self.at += count
        return self._data[self.at - count : self.at]

    def byte(self, what: str) -> int:
        """Return the next byte."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """Return the next number, at most eight bytes long."""
        number = 0
        for length in range(_MAX_LONG_BYTES):
            byte = self.byte(what)
            number |= (byte & 0x7F) << (7 * length)
            if not byte & 0x80:
                if length and not byte:
                    raise DiffFormatError(self._rule, f"{what} has a needless zero byte.")
                return number
        raise DiffFormatError(self._rule, f"{what} is over {_MAX_LONG_BYTES} bytes long.")
