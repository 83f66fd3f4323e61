"""How does diff pruning compare with full finetuning and other baselines, task by task?

Reads a run that trained baselines beside its own method, or several that split its seeds. Prints a
table of mean scores over seeds, then the difference from each baseline with a 95% interval: t over
paired seeds (streamlab/stats/differences.py), since all methods saw the same examples under each.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

from streamlab.errors import NotInRegistryError, StreamlabError, UsageError
from streamlab.home.folder import Home
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry
from streamlab.stats.differences import mean_difference
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
    """Average the paired differences over tasks, with an interval over seeds where there is one."""
    sides = ((task, found.get((task, own)), found.get((task, baseline))) for task in tasks)
    pairs = {task: paired(a, b).differences for task, a, b in sides if a and b}
    by_task = {task: [100 * d for d in drawn] for task, drawn in pairs.items() if drawn}
    if not by_task:
        return f"{own} - {baseline}: no pair yet"
    all_over = mean_difference(by_task)
    count = sum(map(len, by_task.values()))
    wins = f"{count} pairs, {all_over.n_wins} won, {all_over.n_losses} lost"
    if math.isnan(all_over.low):
        return f"{own} - {baseline}: {all_over.mean:+.2f} ({wins}; no interval from single seeds)"
    limits = f"[{all_over.low:+.2f}, {all_over.high:+.2f}]"
    return f"{own} - {baseline}: {all_over.mean:+.2f} {limits} ({wins})"


def _cell(value: str | int | float | None) -> str:
    return f"{100 * value:.1f}" if isinstance(value, float) else str(value or "-")


if __name__ == "__main__":
    main()
