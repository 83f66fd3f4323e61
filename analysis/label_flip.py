"""Which share of wrong labels does the probe detect, at which tolerance?

Reads a run whose providers flip labels (scenarios/label_flip.yaml), compares the score that each
declared with the one measured by the lab, prints the share of submissions that the probe would stop
at several tolerances as a Markdown table, and writes the figure and its numbers:

    streamlab run scenarios/label_flip.yaml
    python analysis/label_flip.py streamlab-home@label_flip-1 -o figures
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.figures.label_flip import (
    TOLERANCES,
    FlipFigure,
    caught,
    read_flips,
    write_flips,
)
from streamlab.views.export import markdown_table
from streamlab.views.run_source import open_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the figure and its numbers, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", metavar="HOME[@RUN]", help="default run: the latest")
    parser.add_argument("-o", "--output", type=Path, default=Path("figures"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with open_source(options.source) as source:
            data = read_flips(source.registry, source.registry.runs.get(source.run))
        files = write_flips(data, options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(_table(data))
    for path in files:
        print(path)
    return 0


def _table(data: FlipFigure) -> str:
    header = (
        "wrong labels",
        "n",
        "declared",
        "measured",
        *(f"caught at {t:g}" for t in TOLERANCES),
    )
    rows = (
        (
            *(f"{share:.0%}", str(len(points))),
            f"{statistics.fmean(point.declared for point in points):.3f}",
            f"{statistics.fmean(point.score.value for point in points):.3f}",
            *(f"{caught(points, tolerance):.0%}" for tolerance in TOLERANCES),
        )
        for share, points in data.by_share.items()
    )
    return markdown_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
