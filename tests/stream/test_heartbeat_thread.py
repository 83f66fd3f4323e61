from __future__ import annotations

import threading

import pytest

from streamlab.errors import RegistryError
from streamlab.stream.engine import beating


def test_it_beats_again_after_a_beat_that_failed_and_stops_with_the_block() -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> None:
        beats.append(len(beats))
        if len(beats) == 1:
            raise RegistryError("The registry is locked.")
        enough.set()

    with beating(beat, seconds=0.001):
        assert enough.wait(60)

    assert len(beats) >= 2
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_it_stops_when_the_block_breaks_down() -> None:
    with pytest.raises(KeyboardInterrupt), beating(lambda: None, seconds=60):
        raise KeyboardInterrupt

    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
