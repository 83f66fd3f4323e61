"""Changed tensors as one stream of bytes, and back; `changes.c` has the code and says how."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.compiler import compile_library
from streamlab.errors import StreamlabError

Bytes = NDArray[np.uint8]

_Pointer, _Integer = ctypes.c_void_p, ctypes.c_int64


class _Float(NamedTuple):
    width: int  # bytes
    shift: int  # of the exponent
    mask: int


# Of safetensors' names of types: those whose changes are coded given the exponent.
_FLOATS: Final = {
    "F32": _Float(4, 23, 0xFF),
    "BF16": _Float(2, 7, 0xFF),
    "F16": _Float(2, 10, 0x1F),
}
WIDTHS: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8,
} | {name: kind.width for name, kind in _FLOATS.items()}  # fmt: skip
"""Bytes of a number by safetensors' name of its type."""


class Kind(NamedTuple):
    """What a tensor is of: safetensors' name of its type, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_numbers(self) -> int:
        """Return the number of its entries."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def n_bytes(self) -> int:
        """Return the bytes that it takes."""
        return self.n_numbers * WIDTHS[self.dtype]

    def numbers(self, data: Bytes) -> NDArray[Any]:
        """View the bytes of numbers of this type as unsigned integers, one for each."""
        return data.view(f"u{WIDTHS[self.dtype]}")


class _Coder:
    """A coder in C; `data` are read, or None where it writes."""

    def __init__(self, data: Bytes | None) -> None:
        self._library = _compiled()
        self._data = data  # the coder has its address
        at = (None, 0) if data is None else (data.ctypes.data, len(data))
        self._coder = self._library.coder_new(*at)
        if not self._coder:
            raise MemoryError
        weakref.finalize(self, self._library.coder_free, self._coder)

    def _code(self, verb: str, base: Bytes | None, tuned: Bytes, kind: Kind) -> bool:
        """Code one tensor, and return whether any of it changes."""
        kind_of = _FLOATS.get(kind.dtype)
        base_at = None if base is None else base.ctypes.data
        if not kind.n_numbers:
            return False
        if base is None or kind_of is None:
            code = getattr(self._library, f"{verb}_bytes")
            width = WIDTHS[kind.dtype]
            return bool(code(self._coder, base_at, tuned.ctypes.data, len(tuned), width))
        n_rows = kind.shape[0] if len(kind.shape) > 1 else 1
        n_columns = kind.n_numbers // n_rows
        columns = np.empty(n_columns, dtype=np.int32)  # as much memory as the coder wants for each
        code = getattr(self._library, f"{verb}_{8 * kind_of.width}")
        return bool(
            code(
                self._coder, base_at, tuned.ctypes.data, n_rows, n_columns,
                kind_of.shift, kind_of.mask, columns.ctypes.data,
            )
        )  # fmt: skip


class ChangeWriter(_Coder):
    """Write the changes of tensors, in the order in which they are to be read."""

    def __init__(self) -> None:
        super().__init__(None)

    def write(self, base: Bytes | None, tuned: Bytes, kind: Kind) -> bool:
        """Write how a tensor differs from its base, and return whether it does.

        Both are contiguous bytes of the same kind; `base`: None for a tensor that is new.
        """
        return self._code("write", base, tuned, kind)

    def take(self) -> bytes:
        """Return what was written since the last call, as far as it is final."""
        n_bytes = self._library.coder_take(self._coder, None, 0)
        found = np.empty(n_bytes, dtype=np.uint8)
        self._library.coder_take(self._coder, found.ctypes.data, n_bytes)
        if self._library.coder_failed(self._coder):
            raise MemoryError
        return found.tobytes()

    def finish(self) -> bytes:
        """Return the rest; nothing may be written afterwards."""
        self._library.coder_finish(self._coder)
        return self.take()


class ChangeReader(_Coder):
    """Read the changes of tensors, in the order in which they were written.

    Data that were not written so give other tensors, in memory that the kinds bound.
    """

    def __init__(self, data: Bytes) -> None:
        super().__init__(np.ascontiguousarray(data))

    def read(self, base: Bytes | None, kind: Kind) -> Bytes:
        """Return the bytes of a tensor that differs from its base as was written."""
        tuned = np.empty(kind.n_bytes, dtype=np.uint8)
        self._code("read", base, tuned, kind)
        return tuned

    @property
    def is_done(self) -> bool:
        """Return whether all data were read, and none was out of range."""
        return bool(self._library.coder_is_done(self._coder))


@cache
def _compiled() -> Any:
    """Compile and load the coder. Raises StreamlabError where there is no compiler."""
    library = compile_library([Path(__file__).with_name("changes.c")])
    if library is None:
        raise StreamlabError(
            "Exact differences are coded in C, and no C compiler was found. Install one, such as "
            "gcc, or set CC to its path."
        )
    library.coder_new.restype = _Pointer
    library.coder_new.argtypes = (_Pointer, _Integer)
    library.coder_free.restype = library.coder_finish.restype = None
    library.coder_take.restype = _Integer
    library.coder_take.argtypes = (_Pointer, _Pointer, _Integer)
    for name in ("coder_free", "coder_finish", "coder_is_done", "coder_failed"):
        getattr(library, name).argtypes = (_Pointer,)
    for verb in ("write", "read"):
        getattr(library, f"{verb}_bytes").argtypes = (
            *[_Pointer] * 3, _Integer, ctypes.c_int,
        )  # fmt: skip
        for bits in (16, 32):
            getattr(library, f"{verb}_{bits}").argtypes = (
                *[_Pointer] * 3, _Integer, _Integer, ctypes.c_int, ctypes.c_uint32, _Pointer,
            )  # fmt: skip
    return library
