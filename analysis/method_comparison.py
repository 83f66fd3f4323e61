"""Is diff pruning as good as full finetuning, and better than cheaper ways, task by task?

Reads one run that trained rivals beside its own method, and prints a table of mean scores over
seeds, then the difference to every rival with a 95% interval: a bootstrap over seeds within
tasks, paired, as every method saw the same rows under the same seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import NotInRegistryError, StreamlabError
from streamlab.registry.home import Home
from streamlab.registry.registry import Registry
from streamlab.report.csv_file import write_csv
from streamlab.report.scores import TaskScore, task_scores
from streamlab.report.storage import own_method

N_DRAWS = 10_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison of one run, and write it as CSV where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("streamlab-home"))
    parser.add_argument("--run", default="latest")
    parser.add_argument("--csv", type=Path, help="write the table here too")
    options = parser.parse_args(arguments)
    try:
        compare(options.home, options.run, options.csv)
    except StreamlabError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def compare(home: Path, name: str, csv: Path | None) -> None:
    """Compare the methods of one run. Raises NotInRegistryError where there is no rival."""
    with Registry.open(Home(home).registry_url, clock=time.time, read_only=True) as registry:
        run = registry.run(name)
        scores = task_scores(registry.scores(run=run.id))
    own = own_method(run)
    methods = list(dict.fromkeys([own, *(score.method for score in scores)]))
    if len(methods) == 1:
        raise NotInRegistryError(
            f"The run {run.name} trained no rival. Set `rivals` and run again."
        )
    tasks = list(dict.fromkeys(score.task for score in scores))
    found = {(score.task, score.method): score for score in scores}
    rows = [_row(task, methods, found) for task in tasks]
    header = ["task", "metric", "seeds", *methods]
    print(f"{run.name}: own scores on dev, 100 x, mean over seeds\n")
    print(_markdown(header, rows))
    print()
    for rival in methods[1:]:
        print(_difference(own, rival, tasks, found))
    if csv is not None:
        write_csv(csv, header, rows)


def _row(
    task: str, methods: list[str], found: dict[tuple[str, str], TaskScore]
) -> list[str | int | float | None]:
    own = found[task, methods[0]]
    means = [found[task, m].mean if (task, m) in found else None for m in methods]
    return [task, own.metric, len(own.by_seed), *means]


def _difference(
    own: str, rival: str, tasks: list[str], found: dict[tuple[str, str], TaskScore]
) -> str:
    """Average the paired differences over tasks, with a bootstrap interval over seeds."""
    by_task = [
        np.array([a.by_seed[seed] - b.by_seed[seed] for seed in a.by_seed if seed in b.by_seed])
        for a, b in ((found.get((t, own)), found.get((t, rival))) for t in tasks)
        if a is not None and b is not None
    ]
    pairs: list[NDArray[np.float64]] = [differences for differences in by_task if differences.size]
    if not pairs:
        return f"{own} - {rival}: no pair yet"
    generator = np.random.default_rng(0)
    draws = np.mean(
        [d[generator.integers(0, d.size, (N_DRAWS, d.size))].mean(axis=1) for d in pairs], axis=0
    )
    low, high = 100 * np.quantile(draws, [0.025, 0.975])
    mean = 100 * float(np.mean([d.mean() for d in pairs]))
    count = sum(d.size for d in pairs)
    return f"{own} - {rival}: {mean:+.2f} [{low:+.2f}, {high:+.2f}] ({count} pairs)"


def _markdown(header: list[str], rows: list[list[str | int | float | None]]) -> str:
    def cell(value: str | int | float | None) -> str:
        return f"{100 * value:.1f}" if isinstance(value, float) else str(value or "-")

    lines = [header, ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
