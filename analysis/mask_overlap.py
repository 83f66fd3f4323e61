"""Do the diffs of different tasks change the same positions, more often than by chance?

Plots the Jaccard index of each pair of tasks of one run, writes the numbers as CSV, and prints a
summary:

    python analysis/mask_overlap.py streamlab-home
    python analysis/mask_overlap.py streamlab-home@glue_stream-1 -o figures
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.figures.mask_overlap import OverlapFigure
from streamlab.views.run_source import open_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure and its numbers, print a summary and their paths, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", metavar="HOME[@RUN]", help="default run: the latest")
    parser.add_argument("-o", "--output", type=Path, default=Path("figures"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with open_source(options.source) as source:
            data = OverlapFigure.read(source)
        files = data.write(options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(summary(data))
    for path in files:
        print(path)
    return 0


def summary(data: OverlapFigure) -> str:
    """Return the mean and the largest overlap of two tasks, compared with chance."""
    over = [pair.jaccard / pair.chance for pair in data.pairs if pair.chance]
    most = max(data.pairs, key=lambda pair: pair.jaccard)
    names = " and ".join(data.tasks[place] for place in (most.first, most.second))
    mean = statistics.fmean(pair.jaccard for pair in data.pairs)
    return (
        f"{len(data.pairs)} pairs of {data.stream.run.name}: Jaccard {mean:.2%} on average, "
        f"{min(over):.1f} to {max(over):.1f} times chance; {names} have {most.jaccard:.2%}."
    )


if __name__ == "__main__":
    sys.exit(main())
