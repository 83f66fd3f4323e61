"""Who works on a run, and whether they still do."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

STALE_SECONDS = 120.0  # a running run that was silent for longer is taken for dead


@dataclass(frozen=True)
class Owner:
    """The process that works on a run."""

    host: str
    pid: int


def this_process() -> Owner:
    """Return the process that asks."""
    return Owner(host=socket.gethostname(), pid=os.getpid())


def is_dead(owner: Owner, *, heartbeat_at: float, now: float) -> bool:
    """Say whether the owner of a running run is gone: silent for too long, or its process ended.

    Times are seconds since the epoch. A process is looked for on this host only.
    """
    if now - heartbeat_at > STALE_SECONDS:
        return True
    return owner.host == socket.gethostname() and not _exists(owner.pid)


def _exists(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 asks nothing elsewhere, so the heartbeat alone decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, but there
    return True
