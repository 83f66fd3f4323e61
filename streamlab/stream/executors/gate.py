"""The gate that orders pass: which of those that wait may be answered at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streamlab.errors import ProviderError

_ROUNDING = 1e-9  # shares of a GPU may add up to one and a little more


@dataclass(frozen=True, eq=False)
class Claim:
    """What an order needs: that nothing else runs, or a share of one of the GPUs."""

    provider: str
    alone: bool = False
    gpus: float = 0.0
    gpu: int | None = None  # the only one that will do


class Gate:
    """Lets in one order of a provider at a time, onto a GPU no more than it has room for.

    One that must be alone is let in when nothing else is inside, and before what waits with it.
    """

    def __init__(self, n_gpus: int = 0) -> None:
        """`n_gpus`: of this machine that are counted; without any, no share of one is."""
        self._changed = threading.Condition()
        self._free = [1.0] * n_gpus
        self._inside: set[str] = set()  # providers
        self._alone: list[Claim] = []  # that wait, or the one that is inside
        self._last: dict[str, int] = {}  # the GPU that a provider was on
        self._closed = False

    @contextmanager
    def entered(self, claim: Claim) -> Iterator[int | None]:
        """Wait for room; the number of the GPU to use, if any. Raises ProviderError once closed."""
        with self._changed:
            if claim.alone:
                self._alone.append(claim)
            try:
                self._changed.wait_for(lambda: self._closed or self._has_room(claim))
                if self._closed:
                    raise ProviderError("The run was stopped before the provider could answer.")
            except BaseException:
                self._leave(claim)
                raise
            gpu = self._find_gpu(claim)
            self._inside.add(claim.provider)
            if gpu is not None:
                self._free[gpu] -= claim.gpus
                self._last[claim.provider] = gpu
        try:
            yield gpu
        finally:
            with self._changed:
                self._inside.discard(claim.provider)
                if gpu is not None:
                    self._free[gpu] += claim.gpus
                self._leave(claim)

    def close(self) -> None:
        """Let nothing in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _leave(self, claim: Claim) -> None:
        if claim.alone:
            self._alone.remove(claim)
        self._changed.notify_all()

    def _has_room(self, claim: Claim) -> bool:
        if claim.alone:
            return not self._inside and self._alone[0] is claim
        if self._alone or claim.provider in self._inside:
            return False
        return not claim.gpus or not self._free or self._find_gpu(claim) is not None

    def _find_gpu(self, claim: Claim) -> int | None:
        """Return a GPU with room: the provider's last one, or the one with the most."""
        if not claim.gpus:
            return None
        last = self._last.get(claim.provider)
        fitting = [
            number
            for number, free in enumerate(self._free)
            if free + _ROUNDING >= claim.gpus and claim.gpu in (None, number)
        ]
        return last if last in fitting else max(fitting, key=self._free.__getitem__, default=None)
