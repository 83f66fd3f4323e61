"""The memory of a process: its peak during one piece of work, and bounds to it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SACRIFICE = Path("/proc/self/oom_score_adj")


def reset_peak() -> None:
    """Start a new measurement, where the system can (Linux); elsewhere the peak only grows."""
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
    """Let this process allocate so much and no more: what asks for it gets a MemoryError.

    Counts private memory that can be written to, whether it is in use or not. Not every system
    holds to it; Linux does. A lower limit that holds already stays.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    allowed = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def offer_to_be_ended() -> None:
    """Have the system end this process before others when memory runs out, where it can (Linux)."""
    try:
        _SACRIFICE.write_text("1000")
    except OSError:
        return
