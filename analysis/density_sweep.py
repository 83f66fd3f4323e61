"""How do one task's score and bytes depend on the density of its diff?

Reads every run of one scenario in a home, each with another target density, and plots the score and
the bytes of the task's diffs against the density reached, with full finetuning's score as a line;
writes the numbers as CSV. `scenarios/density_sweep.yaml` says how to make the runs:

    python analysis/density_sweep.py sweep
    python analysis/density_sweep.py sweep --scenario density_sweep --task polarity -o figures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.figures.density_sweep import read_sweep, write_sweep
from streamlab.views.run_source import open_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure and its numbers, print their paths and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("home", help="where the runs are")
    parser.add_argument("--scenario", default="density_sweep", help="the runs' scenario by name")
    parser.add_argument("--task", help="default: the first that arrived")
    parser.add_argument("-o", "--output", type=Path, default=Path("figures"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with open_source(options.home) as source:
            data = read_sweep(source.registry, options.scenario, options.task)
        files = write_sweep(data, options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    for path in files:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
