"""Time and memory of planning for a million tasks.

    python benchmarks/planning.py HOME [--tasks 1000000] [--repeats 3] [--json]

Processes are timed including their start: storage alone, and with a queue.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time

CALLS = {
    "storage": [],
    "one_slot": ["--rate", "1000", "--slots", "1"],
    "two_slots": ["--rate", "3000", "--slots", "2"],
}


def main() -> None:
    """Time every call in turn and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("home")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for name, arguments in CALLS.items():
        asked = ["simulate", "--home", options.home, "--tasks", str(options.tasks), *arguments]
        runs = [_timed(asked) for _ in range(options.repeats)]
        found[f"{name}_seconds"] = statistics.median(seconds for seconds, _ in runs)
        found[f"{name}_megabytes"] = max(megabytes for _, megabytes in runs)
    if options.json:
        print(json.dumps(found))
        return
    for name in CALLS:
        seconds, megabytes = found[f"{name}_seconds"], found[f"{name}_megabytes"]
        print(f"{name:10} {seconds:6.2f} s {megabytes:6.0f} MB")


def _timed(arguments: list[str]) -> tuple[float, float]:
    """Run the command line once: seconds and MB at its peak."""
    code = "from streamlab.cli import main; main()"
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit("The command failed; its error stands above.")
    return seconds, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
