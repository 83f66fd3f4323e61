"""The processes of one provider: keep them in one tree, measure it, and end it as a whole.

Linux only, by /proc; elsewhere a provider's first process is all that is found.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of prctl
_ROUNDS = 200  # of looking for processes that were started in the meantime
_MORE_TASKS = 1024  # processes and threads, than the user has when a provider starts


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    n_threads: int
    user: int
    dead: bool  # and not waited for by its parent yet


def _processes() -> Iterator[_Process]:
    """Yield every process of the machine."""
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):  # it has ended
                text = (folder / "stat").read_text(errors="replace")
                fields = text.rpartition(")")[2].split()  # the name before it may hold anything
                user = folder.stat().st_uid
                yield _Process(
                    int(folder.name), int(fields[1]), int(fields[17]), user, dead=fields[0] in "ZX"
                )


def tree_of(root: int) -> list[int]:
    """Return the living processes that descend from `root`, and `root`."""
    everything, found = list(_processes()), {root}
    n_found = 0
    while n_found < len(found):
        n_found = len(found)
        found |= {process.pid for process in everything if process.parent in found}
    return [process.pid for process in everything if process.pid in found and not process.dead]


def memory_of(pids: Collection[int]) -> int:
    """Return the bytes of memory in use by processes, mapped files left out.

    What several of them share is counted once.
    """
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
    return total


def kill_tree(root: int, *, but: int | None = None) -> None:
    """Kill a process and all its descendants, except `but`.

    They are stopped first, until no new one is found, so that none is started unseen.
    """
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        new = set(tree_of(root)) - stopped - {but}
        if not new:
            break
        _signal(new, signal.SIGSTOP)
        stopped |= new
    _signal(stopped, signal.SIGKILL)
    for _ in range(_ROUNDS):
        left = set(tree_of(root)) - {but}
        if not left:
            return
        _signal(left, signal.SIGKILL)
        time.sleep(0.005)


def _signal(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


def supervise() -> None:
    """Go on in a child process, while this one waits for it, ends its descendants, and follows it.

    A descendant that loses its parent becomes a child of this process, so that none gets lost.
    The child has a session of its own; both are killed when whoever started them ends.
    """
    _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    _control(_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        os.setsid()
        _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        return
    status = None
    while status is None:
        pid, ended = os.wait()
        status = ended if pid == child else None
    kill_tree(os.getpid(), but=os.getpid())
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(max(code, 0))


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def bound_processes() -> None:
    """Limit the processes and threads of this user, as this process sees them; never root's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    mine = sum(process.n_threads for process in _processes() if process.user == os.getuid())
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    allowed = min([mine + _MORE_TASKS, *bounds])
    resource.setrlimit(resource.RLIMIT_NPROC, (allowed, allowed))
