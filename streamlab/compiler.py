"""Sources in C as a library of this process, where the machine has a compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path


def find_compiler() -> str | None:
    """Return the path of the C compiler, or None where there is none."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def compile_library(sources: Iterable[Path], options: Iterable[str] = ()) -> ctypes.CDLL | None:
    """Compile sources for this processor and load them; None where no compiler can do it.

    The library is made in a new temporary folder that is deleted once it is loaded: it is never
    stale, and none that another user could have written is ever run. Contraction to fused
    multiply-adds is off: with it bits would depend on the machine.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="streamlab-kernels-") as folder:
        library = Path(folder) / "kernels.so"
        flags = ["-O3", "-march=native", "-std=c11", "-ffp-contract=off", "-shared", "-fPIC"]
        command = [compiler, *flags, *options, *map(str, sources), "-o", str(library), "-lm"]
        try:
            # The compiler is the user's own; the arguments are constants of the callers.
            subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError):
            return None
