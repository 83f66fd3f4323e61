"""How does diff pruning compare with full finetuning and other baselines, task by task?

Reads a run that trained baselines beside its own method, or several that split its seeds. Prints a
table of mean scores over seeds, then the difference from each baseline with a 95% interval: a
paired bootstrap over seeds within tasks, since all methods saw the same examples under each seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import NotInRegistryError, StreamlabError, UsageError
from streamlab.home.folder import Home
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry
from streamlab.stats.bootstrap import N_DRAWS, interval, mean_over_seeds
from streamlab.views.export import markdown_table, write_csv
from streamlab.views.task_scores import TaskScore, paired, task_scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison of one run, and write it as CSV where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("streamlab-home"))
    parser.add_argument("--run", action="append", help="repeat for runs of other seeds")
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    try:
        compare(options.home, options.run or ["latest"], options.csv)
    except StreamlabError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def compare(home: Path, names: Sequence[str], csv: Path | None) -> None:
    """Compare the methods of runs that differ in their seeds.

    Raises NotInRegistryError without a baseline, UsageError for runs that differ otherwise.
    """
    with Registry.open(Home(home).registry_url, clock=time.time, read_only=True) as registry:
        runs = [registry.runs.get(name) for name in names]
        by_run = [registry.scores.list(run=run.id) for run in runs]
    own = runs[0].settings.primary_method
    _check_together(runs)
    scores = task_scores([score for scores in by_run for score in scores])
    methods = list(dict.fromkeys([own, *(score.method for score in scores)]))
    title = " and ".join(run.name for run in runs)
    if len(methods) == 1:
        raise NotInRegistryError(f"{title} trained no baseline. Set `baselines` and run again.")
    tasks = list(dict.fromkeys(score.task for score in scores))
    found = {(score.task, score.method): score for score in scores}
    rows = [_row(task, methods, found) for task in tasks]
    header = ["task", "metric", "seeds", *methods]
    print(f"{title}: own scores on dev, 100 x, mean over seeds\n")
    print(markdown_table(header, ([_cell(value) for value in row] for row in rows)))
    print()
    for baseline in methods[1:]:
        print(_difference(own, baseline, tasks, found))
    if csv is not None:
        write_csv(csv, header, rows)


def _check_together(runs: Sequence[RunRecord]) -> None:
    seeds = [seed for run in runs for seed in run.settings.seeds]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"Some of the seeds {seeds} are in two of the runs. Name one of them.")
    settings = [{**run.scenario, "seeds": None} for run in runs]
    if any(other != settings[0] for other in settings):
        raise UsageError("The runs differ in more than their seeds and cannot be combined.")


def _row(
    task: str, methods: list[str], found: dict[tuple[str, str], TaskScore]
) -> list[str | int | float | None]:
    scores = [found.get((task, method)) for method in methods]
    there = [score for score in scores if score is not None]
    n_seeds = max(len(score.by_seed) for score in there)
    return [task, there[0].metric, n_seeds, *(None if s is None else s.mean for s in scores)]


def _difference(
    own: str, baseline: str, tasks: list[str], found: dict[tuple[str, str], TaskScore]
) -> str:
    """Average the paired differences over tasks, with a bootstrap interval over seeds.

    See `streamlab.stats.bootstrap`. With one seed there is no interval.
    """
    by_task = [
        np.array(paired(a, b).differences)
        for a, b in ((found.get((t, own)), found.get((t, baseline))) for t in tasks)
        if a is not None and b is not None
    ]
    pairs: list[NDArray[np.float64]] = [differences for differences in by_task if differences.size]
    if not pairs:
        return f"{own} - {baseline}: no pair yet"
    mean = 100 * float(np.mean([d.mean() for d in pairs]))
    count = sum(d.size for d in pairs)
    if any(d.size == 1 for d in pairs):
        return f"{own} - {baseline}: {mean:+.2f} ({count} pairs; no interval: a task has one seed)"
    generator = np.random.default_rng(0)
    draws = np.mean([_draw_means(d, generator) for d in pairs], axis=0)
    low, high = (100 * end for end in interval(draws))
    return f"{own} - {baseline}: {mean:+.2f} [{low:+.2f}, {high:+.2f}] ({count} pairs)"


def _draw_means(
    differences: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Resample the mean over seeds of one task's differences; (N_DRAWS,)."""
    n_seeds = differences.size
    seeds = generator.integers(0, n_seeds, (N_DRAWS, n_seeds))
    return mean_over_seeds(np.broadcast_to(differences, seeds.shape), seeds)


def _cell(value: str | int | float | None) -> str:
    return f"{100 * value:.1f}" if isinstance(value, float) else str(value or "-")


if __name__ == "__main__":
    main()
