"""The memory of this process: measuring its peak, and limiting it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_OOM_SCORE = Path("/proc/self/oom_score_adj")


def reset_peak() -> None:
    """Start a new measurement on Linux; elsewhere the peak only grows."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Return the highest resident memory of this process since `reset_peak`."""
    try:
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


def bound_memory(n_bytes: int) -> None:
    """Limit what this process may allocate; beyond it, a MemoryError is raised.

    The limit counts writable private memory, used or not. Linux enforces it; other systems may
    not. A lower existing limit stays.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    allowed = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def offer_to_be_ended() -> None:
    """Ask Linux to kill this process before others when memory runs out."""
    try:
        _OOM_SCORE.write_text("1000")
    except OSError:
        return
