"""`streamlab study`: run the cells of a study, and print what was chosen and what it scored."""

from __future__ import annotations

import math
import statistics
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from streamlab.cli.options import Place, with_place
from streamlab.cli.output import Format, format_option, note, print_page
from streamlab.errors import StreamlabError
from streamlab.units import counted, format_seconds, printable
from streamlab.views.table import Page, Table, columns, tabulate

if TYPE_CHECKING:
    from streamlab.study.results import CellResult, Choice, Results
    from streamlab.study.runner import Plan
    from streamlab.study.study import Cell, LoadedStudy

_CHOICES = columns("row, task, setting, validation: score, note")
_ROWS = columns(
    "row, [tasks: count], pairs: count, mean: score, difference: change, low: change, "
    "high: change, won: count, lost: count, bytes: bytes, [entries: count]"
)


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--plan", "planning", is_flag=True, help="Count the cells and estimate their time.")
@click.option("--table", "printing", is_flag=True, help="Print the tables only; run nothing.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    metavar="H",
    help="Begin no cell after this time.",
)
@format_option()
@with_place
def study(
    study: Path,
    *,
    planning: bool,
    printing: bool,
    hours: float | None,
    form: Format,
    place: Place,
) -> None:
    """Run STUDY: every method at its tuned settings, on the same tasks and seeds.

    Each cell (a task, a seed, a setting of a method) is a run with one arrival. What is recorded
    is not run again, so that a study can be stopped at any time, extended by methods, tasks and
    seeds, and run by several processes at once; `streamlab import` adds the cells of another home.

    \b
    Example:
      streamlab study studies/first.yaml --plan
      streamlab study studies/first.yaml --hours 2
    """
    from streamlab.study.results import Results
    from streamlab.study.runner import plan
    from streamlab.study.study import load_study

    loaded = load_study(study)
    n_failed = 0
    if not (planning or printing):
        n_failed = _run(loaded, place, hours)
    there = place.registry is not None or place.home.has_registry
    with place.open() if there else nullcontext() as registry:
        results = Results(registry)
        found = plan(loaded, results)
        note(_described(loaded, found))
        if not planning:
            tables = (_choices(loaded, results), _table(loaded, results))
            record = {"study": loaded.study.name, **asdict(found)}
            print_page(Page("study", loaded.study.name, record, tables), form, rows=tables[1])
    if n_failed:
        raise StreamlabError(f"{counted(n_failed, 'cell')} failed; see `streamlab ls runs`.")


def _run(loaded: LoadedStudy, place: Place, hours: float | None) -> int:
    """Run open cells, print a line for each, and return how many failed."""
    from streamlab.cli.run_scenario import LiveProgress
    from streamlab.study.runner import run_study

    notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    live = LiveProgress(notes)
    n_failed = 0
    with live:
        for cell, result in run_study(
            loaded,
            place.home.path,
            registry_url=place.url,
            store_url=place.store_url,
            until=None if hours is None else time.time() + 3600 * hours,
            watch=live.show,
        ):
            live.clear()
            notes.print(printable(_line(cell, result)))
            n_failed += result.state == "failed"
    return n_failed


def _line(cell: Cell, result: CellResult) -> str:
    parts = (cell.row.label, _setting(cell.chosen), f"{cell.task}, seed {cell.seed}")
    what = " ".join(filter(None, parts))
    if result.state != "done":
        return f"{result.state.upper()} {what}"
    return f"{what}: {result.metric} {100 * result.dev:.1f}, {format_seconds(result.seconds)}"


def _setting(chosen: tuple[tuple[str, object], ...]) -> str:
    return " ".join(f"{path.rpartition('.')[2]}={value}" for path, value in chosen)


def _described(loaded: LoadedStudy, found: Plan) -> str:
    left = "unknown until one is done" if found.seconds is None else format_seconds(found.seconds)
    return (
        f"{loaded.study.name}: {counted(found.n_cells, 'cell')}, {found.n_done} done, "
        f"{found.n_failed} failed, {found.n_elsewhere} being run by others, {found.n_open} open; "
        f"time for these: {left}."
    )


@dataclass(frozen=True)
class _Chosen:
    """A line of the table of choices."""

    row: str
    task: str
    setting: str
    validation: float | None
    note: str


def _noted(choice: Choice) -> str:
    """Return what is to be known of a choice: an end of its grid, or trials that are missing."""
    if not choice.is_final:
        return "not all tried yet"
    edges = ", ".join(f"`{path.rpartition('.')[2]}`" for path in choice.at_edge)
    return f"best at the end of the grid of {edges}: extend it" if edges else ""


def _choices(loaded: LoadedStudy, results: Results) -> Table:
    """Return the chosen setting of every row that is tuned."""
    tasks = list(loaded.study.tasks) if loaded.study.choose == "by_task" else ["all"]
    lines = []
    for row in loaded.rows():
        if not loaded.study.methods[row.method].tune:
            continue
        for task in tasks:
            first = next(iter(loaded.study.tasks)) if task == "all" else task
            choice = results.choose(loaded, row, first)
            lines.append(
                _Chosen(
                    row=row.label,
                    task=task,
                    setting=_setting(choice.setting),
                    validation=choice.score if math.isfinite(choice.score) else None,
                    note=_noted(choice),
                )
            )
    return tabulate("choices", "Chosen on validation examples", _CHOICES, lines)


@dataclass(frozen=True)
class _Line:
    """A line of the table of results."""

    row: str
    tasks: int
    pairs: int
    mean: float
    difference: float | None
    low: float | None
    high: float | None
    won: int | None
    lost: int | None
    bytes: int
    entries: int


def _table(loaded: LoadedStudy, results: Results) -> Table:
    """Return the mean of every row, and its paired difference from the reference."""
    rows = {row: results.reported(loaded, row) for row in loaded.rows()}
    wanted = loaded.study.reference
    reference = next(found for row, found in rows.items() if row.method == wanted)
    lines = [_result(row.label, found, reference) for row, found in rows.items() if found]
    return tabulate("rows", f"Scores on dev, compared with {wanted}", _ROWS, lines)


def _result(
    label: str,
    found: dict[str, dict[int, CellResult]],
    reference: dict[str, dict[int, CellResult]],
) -> _Line:
    from streamlab.stats.differences import mean_difference

    pairs = {
        task: [r.dev - reference[task][seed].dev for seed, r in by_seed.items() if seed in there]
        for task, by_seed in found.items()
        if (there := reference.get(task, {}))
    }
    pairs = {task: differences for task, differences in pairs.items() if differences}
    compared = mean_difference(pairs) if pairs and found is not reference else None
    every = [r for by_seed in found.values() for r in by_seed.values()]
    interval = compared is not None and not math.isnan(compared.low)
    return _Line(
        row=label,
        tasks=len(found),
        pairs=sum(map(len, pairs.values())),
        mean=statistics.fmean(
            statistics.fmean(r.dev for r in by_seed.values()) for by_seed in found.values()
        ),
        difference=compared.mean if compared else None,
        low=compared.low if compared and interval else None,
        high=compared.high if compared and interval else None,
        won=compared.n_wins if compared else None,
        lost=compared.n_losses if compared else None,
        bytes=round(statistics.fmean(r.file_bytes for r in every)),
        entries=round(statistics.fmean(r.n_entries for r in every)),
    )
