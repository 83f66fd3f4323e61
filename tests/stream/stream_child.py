"""A process of its own that runs scenarios, and kills itself in the middle of the last one.

    python stream_child.py SCENARIO HOME [SCENARIO HOME ...]

It kills itself, so that where it dies is no matter of luck, and by SIGKILL, so that no code of
this project gets to tidy up. One process does it all, as it takes seconds to start.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from streamlab.methods.api import Progress
from streamlab.stream.engine import run
from streamlab.stream.schedule import Arrival


def die_in_training(arrival: Arrival, progress: Progress) -> None:
    """Die half-way through the second arrival."""
    if arrival.sequence == 1 and progress.step == 6:
        os.kill(os.getpid(), signal.SIGKILL)


def main(*scenarios_and_homes: str) -> None:
    *whole, last = zip(scenarios_and_homes[::2], scenarios_and_homes[1::2], strict=True)
    for scenario, home in whole:
        for _ in run(Path(scenario), home):
            pass
    for _ in run(Path(last[0]), last[1], watch=die_in_training):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
