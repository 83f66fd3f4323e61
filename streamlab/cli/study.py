"""`streamlab study`: run the cells of a study, and print what was chosen and what it scored."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.options import BYTES, Place, with_place
from streamlab.cli.output import Format, format_option, note, print_page
from streamlab.errors import StreamlabError, UsageError
from streamlab.shipped import shipped_files
from streamlab.units import counted, format_seconds, printable
from streamlab.views.table import Page, Table, columns, tabulate

if TYPE_CHECKING:
    from streamlab.registry.registry import Registry
    from streamlab.stats.study_comparison import ComparedRow
    from streamlab.study.results import CellResult, Choice, Results
    from streamlab.study.runner import Plan
    from streamlab.study.study import LoadedStudy

_CHOICES = columns("row, task, setting, validation: score, note, neighbours")
_ROWS = columns(
    "row, [tasks: count], [seeds: count], pairs: count, mean: score, difference: change, "
    "low: change, high: change, p: score, [examples: score], won: count, lost: count, "
    "bytes: bytes, [head: bytes], [entries: count]"
)


class _RunUnlessNamed(SuggestingGroup):
    """A group whose first command is meant where none is named: `streamlab study FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command; insert `run` where a file or its option is."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunUnlessNamed)
def study() -> None:
    """Compare methods, each at its tuned settings, on the same tasks and seeds.

    `streamlab study FILE` is `streamlab study run FILE`.

    \b
    Example:
      streamlab study run studies/first.yaml --hours 2
      streamlab study export studies/first.yaml
    """


_study = click.argument("study", type=click.Path(path_type=Path))


@study.command()
@_study
@click.option("--plan", "planning", is_flag=True, help="Count the cells and estimate their time.")
@click.option("--table", "printing", is_flag=True, help="Print the tables only; run nothing.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    metavar="H",
    help="Begin no cell after this time.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Processes that run cells at once (default: 1).",
)
@click.option(
    "--share",
    type=BYTES,
    metavar="SIZE",
    default="8GB",
    show_default=True,
    help="Disk space for what cells have in common.",
)
@click.option("--no-share", "alone", is_flag=True, help="Train every cell from its first step.")
@format_option()
@with_place
def run(
    study: Path,
    *,
    planning: bool,
    printing: bool,
    hours: float | None,
    workers: int,
    share: int,
    alone: bool,
    form: Format,
    place: Place,
) -> None:
    """Run STUDY: every method at its tuned settings, on the same tasks and seeds.

    Each cell (a task, a seed, a setting of a method) is a run with one arrival. What is recorded,
    here or in the exported file beside the study, is not run again, so that a study can be stopped
    at any time, extended by methods, tasks and seeds, and run by several processes at once;
    `streamlab import` adds the cells of another home.

    \b
    Example:
      streamlab study run studies/first.yaml --plan
      streamlab study run studies/first.yaml --hours 2
    """
    from streamlab.study.runner import plan
    from streamlab.study.study import load_study

    loaded = load_study(study)
    n_failed = 0
    if not (planning or printing):
        most_shared = 0 if alone else share
        n_failed = _run(loaded, place, hours, workers, most_shared=most_shared)
    with _results(loaded, place) as (results, _):
        found = plan(loaded, results)
        note(_described(loaded, found))
        if not planning:
            tables = (_choices(loaded, results), _table(loaded, results))
            record = {"study": loaded.study.name, **asdict(found)}
            print_page(Page("study", loaded.study.name, record, tables), form, rows=tables[1])
    if n_failed:
        raise StreamlabError(f"{counted(n_failed, 'cell')} failed; see `streamlab ls runs`.")


@study.command()
@_study
@with_place
def export(study: Path, *, place: Place) -> None:
    """Write what is recorded of STUDY's cells, without artifacts, to a file beside it.

    The file, NAME/cells.jsonl, has a line for each cell, sorted. Where it is, its cells count as
    done; those of this registry are added to it. NAME/overlaps.jsonl says how much of their masks
    cells of one row have in common, as far as their diffs are in the store.

    \b
    Example:
      streamlab study export studies/first.yaml
    """
    from streamlab.study.overlap import measured, read_overlaps, write_overlaps
    from streamlab.study.records import write_cells
    from streamlab.study.study import load_study

    if not study.exists() and str(study) in shipped_files("study"):
        raise UsageError(
            f"The records of a study are written beside its file, and {study} is a name. "
            f"Copy its file first: `streamlab init {study}.yaml --from {study}`."
        )
    loaded = load_study(study)
    with _results(loaded, place) as (results, registry):
        n = write_cells(loaded.cells_file, results.records(loaded))
        overlaps = read_overlaps(loaded.overlaps_file)
        if registry is not None:
            overlaps += measured(loaded, results, registry, place.find_store(registry))
    click.echo(f"Wrote {counted(n, 'cell')} to {loaded.cells_file}.")
    if overlaps:
        n_pairs = write_overlaps(loaded.overlaps_file, overlaps)
        click.echo(f"Wrote overlaps of {counted(n_pairs, 'pair')} to {loaded.overlaps_file}.")


@contextmanager
def _results(loaded: LoadedStudy, place: Place) -> Iterator[tuple[Results, Registry | None]]:
    """Yield what is recorded of a study, in the registry if there is one and in its file."""
    from streamlab.study.records import read_cells
    from streamlab.study.results import Results

    exported = read_cells(loaded.cells_file)
    there = place.registry is not None or place.home.has_registry
    with place.open() if there else nullcontext() as registry:
        yield Results(registry, exported), registry


def _run(
    loaded: LoadedStudy, place: Place, hours: float | None, workers: int, *, most_shared: int
) -> int:
    """Run open cells, print a line for each, and return how many failed."""
    from streamlab.cli.progress import LiveProgress
    from streamlab.cli.run_scenario import note_slow_step
    from streamlab.study.runner import run_in_processes, run_study

    notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    note_slow_step(notes, loaded.first_cell().scenario.scenario)
    live = LiveProgress(notes)
    where: Mapping[str, Any] = {
        "registry_url": place.url,
        "store_url": place.store_url,
        "until": None if hours is None else time.time() + 3600 * hours,
        "most_shared": most_shared,
    }
    n_failed = 0
    done: Iterator[CellResult]
    with live:
        live.wait("loading base and data" if workers == 1 else f"{workers} processes at work")
        if workers == 1:
            done = (r for _, r in run_study(loaded, place.home.path, watch=live.show, **where))
        else:
            file = Path(loaded.origin)
            done = run_in_processes(file, place.home.path, workers=workers, **where)
        for result in done:
            live.clear()
            notes.print(printable(_line(result)))
            n_failed += result.state == "failed"
    return n_failed


def _line(result: CellResult) -> str:
    record = result.record
    if record is None:
        return f"{result.state.upper()} {result.run}"
    setting = _setting(tuple(record.setting.items()))
    parts = (record.row, setting, f"{record.task}, seed {record.seed}")
    what = " ".join(filter(None, parts))
    if result.state != "done":
        return f"{result.state.upper()} {what}"
    return f"{what}: {result.metric} {100 * result.dev:.1f}, {format_seconds(result.seconds)}"


def _setting(chosen: tuple[tuple[str, object], ...]) -> str:
    return " ".join(f"{path.rpartition('.')[2]}={value}" for path, value in chosen)


def _short(chosen: tuple[tuple[str, object], ...]) -> str:
    return "/".join(str(value) for _, value in chosen)


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
    neighbours: str
    note: str


def _noted(choice: Choice) -> str:
    """Return what is to be known of a choice: an end of its grid, or trials that are missing."""
    if not choice.is_final:
        return "not all tried yet"
    edges = ", ".join(f"`{path.rpartition('.')[2]}`" for path in choice.at_edge)
    return f"at an end of {edges}: extend it" if edges else ""


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
            beside = [t for t in choice.neighbours if math.isfinite(t.score)]
            lines.append(
                _Chosen(
                    row=row.label,
                    task=task,
                    setting=_setting(choice.setting),
                    validation=choice.score if math.isfinite(choice.score) else None,
                    neighbours=", ".join(f"{_short(t.setting)} {t.score:.4f}" for t in beside),
                    note=_noted(choice),
                )
            )
    return tabulate("choices", "Chosen on validation examples", _CHOICES, lines)


@dataclass(frozen=True)
class _Line:
    """A line of the table of results."""

    row: str
    tasks: int
    seeds: int
    pairs: int
    mean: float
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    examples: float | None
    won: int | None
    lost: int | None
    bytes: int
    head: int
    entries: int


def _table(loaded: LoadedStudy, results: Results) -> Table:
    """Return the mean of every row, and its paired difference from the reference."""
    from streamlab.stats.study_comparison import compare_rows

    title = f"Scores on dev, compared with {loaded.study.reference}"
    return tabulate("rows", title, _ROWS, map(_result, compare_rows(loaded, results)))


def _result(row: ComparedRow) -> _Line:
    from streamlab.stats.differences import known

    found = row.difference
    return _Line(
        row=row.row.label,
        tasks=len(row.scores),
        seeds=row.n_seeds,
        pairs=row.n_pairs,
        mean=row.mean,
        difference=found.mean if found else None,
        low=known(found.low) if found else None,
        high=known(found.high) if found else None,
        p=known(row.adjusted_p),
        examples=known(row.examples_error),
        won=found.n_wins if found else None,
        lost=found.n_losses if found else None,
        bytes=row.file_bytes,
        head=row.head_bytes,
        entries=row.n_entries,
    )
