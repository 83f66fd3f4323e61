"""The fused step in C: `step.c`, and the library that it shares with other kernels."""

from __future__ import annotations

import ctypes
import functools
import itertools
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamlab.compiler import compile_library

_SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("step", "selected_gradient")]
_OPTIONS = (
    "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros",
    *(["-mprefer-vector-width=256"] if platform.machine() in ("x86_64", "AMD64") else []),
)  # fmt: skip

BLOCK = np.dtype(
    [
        ("live", "u8"), ("base", "u8"), ("grad", "u8"),
        ("w", "u8"), ("w_mean", "u8"), ("w_square", "u8"),
        ("alpha", "u8"), ("alpha_mean", "u8"), ("alpha_square", "u8"),
        ("count", "i8"), ("position", "u4"), ("prefix_now", "u4"), ("prefix_next", "u4"),
        ("group_now", "f4"), ("group_next", "f4"), ("penalty", "f4"),
    ],
    align=True,
)  # fmt: skip
SCALARS = np.dtype(
    [(name, "f4") for name in (
        "grad_scale", "w_rate", "w_correction1", "w_correction2", "w_epsilon",
        "alpha_rate", "alpha_correction1", "alpha_correction2", "alpha_epsilon",
        "alpha_shift", "beta1", "beta2", "low", "width", "odds")],
    align=True,
)  # fmt: skip
SUMS = np.dtype(
    [(name, "f8") for name in ("group_gradient", "expected_open", "certain_open", "slope")]
)


class NativeStep:
    """The compiled step over blocks, on a fixed number of threads."""

    def __init__(self, library: ctypes.CDLL, n_threads: int) -> None:
        self._run = library.step_blocks
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._run.argtypes = (pointer, pointer, pointer, integer, integer)
        self._run.restype = None
        self._threads = ThreadPoolExecutor(n_threads)
        self._n_threads = n_threads

    def __call__(self, blocks: NDArray[np.void], scalars: NDArray[np.void]) -> NDArray[np.void]:
        """Take one step; returns one SUMS element per block. ctypes releases the GIL."""
        sums = np.zeros(len(blocks), SUMS)
        # Blocks differ in length: every thread gets an equal share of the entries.
        done = np.cumsum(blocks["count"])
        ends = np.searchsorted(done, np.linspace(0, done[-1], self._n_threads + 1))
        ends[-1] = len(blocks)
        jobs = [
            self._threads.submit(
                self._run, blocks.ctypes.data, scalars.ctypes.data, sums.ctypes.data,
                int(first), int(last),
            )
            for first, last in itertools.pairwise(ends)
        ]  # fmt: skip
        for job in jobs:
            job.result()
        return sums


def find_native_step(n_threads: int) -> NativeStep | None:
    """Return the compiled step, or None where no C compiler can build it."""
    library = find_library()
    return None if library is None else NativeStep(library, n_threads)


@functools.cache
def find_library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where no C compiler can build them."""
    return compile_library(_SOURCES, _OPTIONS)
