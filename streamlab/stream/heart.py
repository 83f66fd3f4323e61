"""The heartbeat of a run: by it others tell a run that works from one that died."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamlab.errors import RegistryError

_SECONDS = 15.0


@contextmanager
def beating(beat: Callable[[], None], *, seconds: float = _SECONDS) -> Iterator[None]:
    """Call `beat` every `seconds` from a thread of its own for as long as the block runs."""
    stopped = threading.Event()

    def keep_beating() -> None:
        while not stopped.wait(seconds):
            try:
                beat()
            except RegistryError:
                # A missed beat harms nobody. A run that another process took over goes on to its
                # end, where the registry refuses to have it ended by this one.
                continue

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
