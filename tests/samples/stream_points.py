"""A process that runs one scenario once for each point of an arrival, and dies at that point.

    python stream_points.py SCENARIO FOLDER

Every run is a fork's, with a home of its own below FOLDER: nothing that uses threads has run
before it, and the libraries are loaded once. It dies in the second arrival, without a word.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streamlab.stream.engine import run
from streamlab.stream.lab import POINTS

KILLED = 9


def die_at(point: str, scenario: Path, home: Path) -> None:
    met: list[str] = []

    def reached(name: str) -> None:
        met.append(name)
        if name == point and met.count(name) == 2:
            os._exit(KILLED)

    for _ in run(scenario, home, reached=reached):
        pass


def main(scenario: str, folder: str) -> None:
    for point in POINTS:
        child = os.fork()
        if child == 0:
            die_at(point, Path(scenario), Path(folder) / point)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{point} {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()  # before the next fork, which would write it again


if __name__ == "__main__":
    main(*sys.argv[1:])
