"""Messages between the lab and one process, over a socket: 8 bytes of length, then the message.

Every wait has a deadline, and ends when the process does, even where something else that the
process started holds the other end open.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Final

_LENGTH_BYTES: Final = 8
_CHUNK_BYTES: Final = 1 << 18
_TICK_SECONDS: Final = 0.5


class Channel:
    """One end of a connection. EOFError or ConnectionError: the other end is gone."""

    def __init__(self, end: socket.socket, *, exited: int | None = None) -> None:
        """Use `end`; `exited` is a file descriptor, readable when the other process has ended."""
        self._socket, self._exited = end, exited
        self._buffer = bytearray()
        end.setblocking(False)

    def send(self, message: bytes | memoryview, *, deadline: float | None = None) -> None:
        """Send a message. `deadline`: of `time.monotonic`; raises TimeoutError when it is over."""
        for part in (len(message).to_bytes(_LENGTH_BYTES, "little"), message):
            view = memoryview(part)
            while len(view):
                self._socket.settimeout(_left(deadline))
                view = view[self._socket.send(view[:_CHUNK_BYTES]) :]

    def receive(
        self,
        max_bytes: int | None = None,
        *,
        deadline: float | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Receive a message; `tick` is called now and then while there is none.

        Raises TimeoutError after the deadline, ValueError for more than `max_bytes`, which are
        not read.
        """
        length = int.from_bytes(self._take(_LENGTH_BYTES, deadline, tick), "little")
        if max_bytes is not None and length > max_bytes:
            raise ValueError(f"at most {max_bytes} bytes are read, and it has {length}")
        return self._take(length, deadline, tick)

    def _take(self, n_bytes: int, deadline: float | None, tick: Callable[[], None]) -> bytes:
        while len(self._buffer) < n_bytes:
            self._wait(deadline, tick)
            received = self._socket.recv(_CHUNK_BYTES)
            if not received:
                raise EOFError
            self._buffer += received
        taken = bytes(memoryview(self._buffer)[:n_bytes])
        del self._buffer[:n_bytes]
        return taken

    def _wait(self, deadline: float | None, tick: Callable[[], None]) -> None:
        """Wait until something can be received."""
        ends: list[socket.socket | int] = [self._socket]
        if self._exited is not None:
            ends.append(self._exited)
        while True:
            left = _left(deadline)
            ready = wait(ends, _TICK_SECONDS if left is None else min(left, _TICK_SECONDS))
            if self._socket in ready:
                return
            if ready:
                raise EOFError
            tick()

    def shut(self) -> None:
        """End the connection, which wakes whoever waits for something from it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, and free its end."""
        self.shut()
        self._socket.close()


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
