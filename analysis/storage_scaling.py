"""How does storage grow with the number of tasks, for diffs and for full checkpoints?

Plots the bytes stored after each task, one base and a diff for each task compared with a full
checkpoint for each, of one run or several on common axes, and writes the numbers as CSV:

    python analysis/storage_scaling.py streamlab-home
    python analysis/storage_scaling.py streamlab-home@sparse-1 streamlab-home@dense-1 -o figures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.figures.storage import StorageFigure, StorageSeries, storage_series
from streamlab.views.run_source import open_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure and its numbers, print their paths and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        series = [read_series(source) for source in options.sources]
        files = StorageFigure(tuple(series)).write(options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    for path in files:
        print(path)
    return 0


def read_series(source: str) -> StorageSeries:
    """Read the storage of "HOME" (its latest run) or "HOME@RUN". Raises RegistryError."""
    with open_source(source) as opened:
        return storage_series(opened.registry, opened.run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("sources", nargs="+", metavar="HOME[@RUN]", help="default run: the latest")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("figures"), metavar="DIR", help="default: figures"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
