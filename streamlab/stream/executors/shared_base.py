"""The base of several processes: its tensors once, in a sealed file in memory that each maps.

Every process has a private mapping: what one writes into its tensors, no other sees.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from streamlab.base import Base

if TYPE_CHECKING:
    from torch import Tensor

_ALIGNMENT: Final = 64  # bytes, of every tensor
_ITEM_BYTES: Final = 4  # float32


def base_image(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """Yield the bytes of a base's tensors, in parts, each tensor filled up to 64 bytes."""
    for tensor in tensors.values():
        data = tensor.detach().contiguous().view(-1).numpy().data.cast("B")
        yield data
        yield memoryview(bytes(_padded(len(data)) - len(data)))


def share_image(parts: Iterable[memoryview]) -> int:
    """Write parts of bytes into a file without a name, and return its descriptor.

    Nobody can change it where the system seals files (Linux); elsewhere it is opened to be read.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("streamlab-base", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        _write(number, parts)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
        return number
    with tempfile.NamedTemporaryFile(prefix="streamlab-base") as file:
        _write(file.fileno(), parts)
        return os.open(file.name, os.O_RDONLY | os.O_CLOEXEC)


def without_tensors(base: Base) -> Base:
    """Return what `map_base` needs beside the file."""
    return replace(base, tensors={})


def map_base(file: int, base: Base) -> Base:
    """Return a base with the tensors in a file that `share_image` wrote.

    Raises MemoryError where there is no room for the mapping.
    """
    import torch

    try:
        image = mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        raise
    layout = base.layout
    starts = accumulate((_padded(size * _ITEM_BYTES) for size in layout.sizes), initial=0)
    tensors = {
        name: torch.frombuffer(image, dtype=torch.float32, count=size, offset=start).view(shape)
        if size
        else torch.empty(shape)
        for name, shape, size, start in zip(
            layout.names, layout.shapes, layout.sizes, starts, strict=False
        )
    }
    return replace(base, tensors=tensors)


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


def _write(number: int, parts: Iterable[memoryview]) -> None:
    for part in parts:
        while len(part):
            part = part[os.write(number, part) :]
