"""Commands that use a stored diff on its base: `predict`, `swap` and `merge`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.options import (
    Place,
    base_option,
    described,
    find_task,
    opened,
    task_options,
    with_place,
)
from streamlab.cli.output import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.units import format_bytes
from streamlab.views.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.inference.latency import Timing
    from streamlab.inference.stored_task import ServedTask, TaskDescription, Text
    from streamlab.registry.references import TaskFilter
    from streamlab.tasks.types import Prediction


@click.command()
@click.argument("task")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--pair", "pairs", nargs=2, multiple=True, metavar="A B", help="A pair of texts.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Rows as JSONL, CSV, TSV or Parquet.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=64, show_default=True, metavar="N"
)
@task_options
@base_option
@format_option()
@with_place
def predict(
    task: str,
    texts: tuple[str, ...],
    *,
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    batch_size: int,
    among: TaskFilter,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Answer TEXTs with the stored diff of TASK: labels with probabilities, or values.

    TASK is a name, NAME@VERSION, arrival:NUMBER or the beginning of a diff's digest. A name means
    the highest version, recorded last, by the run's own method in the latest run that has it.

    Without TEXT, --pair or --file, standard input is read: a text a line, with a tab between two
    of a pair, or JSON Lines. Rows have the columns of the task's own data, or `text` (and
    `text2`). json and csv tell the probability of every label.

    \b
    Example:
      streamlab predict sst2 "a gripping, funny film"
      streamlab predict rte --pair "A man sleeps." "Somebody is asleep."
      streamlab predict sst2 --file reviews.jsonl --format csv
    """
    if sum(map(bool, (texts, pairs, file))) > 1:
        raise UsageError("Give texts, `--pair` or `--file`, one of them at a time.")
    home = opened(place)
    stored = find_task(home, task, among)
    click.echo(described(task, stored), err=True)
    facts = stored.facts()
    rows: Sequence[Text] = texts or pairs or _read(file, facts, stored.artifact.columns)
    loaded = home.load_base(stored.base_fingerprint, model=base)
    with stored.applied(loaded) as served:
        predictions = _answered(served, rows, batch_size)
    table = _prediction_table(facts, rows, predictions)
    shown = tuple(column.name for column in table.columns if column.default)
    print_table(table if form in ("json", "csv") else table.select(shown), form)


def _read(
    file: Path | None, facts: TaskDescription, columns: Mapping[str, str | None]
) -> list[Text]:
    from streamlab.inference.inputs import read_lines, texts_in

    if file is not None:
        from streamlab.tasks.sources.readers import read_split

        split = read_split(file)
        return texts_in(split.records, facts, columns, origin=split.origin)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "There is nothing to answer. Give texts, `--pair`, `--file`, or a text a line on "
            "standard input."
        )
    origin = "standard input"
    # What is no UTF-8 is refused with its row, as half a character.
    lines = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape").split("\n")
    return texts_in(read_lines(lines, origin=origin), facts, columns, origin=origin)


def _answered(served: ServedTask, rows: Sequence[Text], batch_size: int) -> list[Prediction]:
    encoded = served.encode(rows)
    if encoded.n_truncated:
        click.echo(
            f"{encoded.n_truncated} of {len(rows)} rows were cut to {encoded.max_length} tokens, "
            "as in training.",
            err=True,
        )
    return served.answer(encoded, batch_size=batch_size)


def _prediction_table(
    facts: TaskDescription, rows: Sequence[Text], predictions: Sequence[Prediction]
) -> Table:
    texts = [(row,) if isinstance(row, str) else row for row in rows]
    names = [Column("text"), Column("text2")][: len(texts[0])]
    if not facts.type.has_classes:
        columns = (*names, Column("value", "score"))
        values = [(p.value,) for p in predictions]
        return Table("predictions", "Predictions", columns, _joined(texts, values))
    shares = [Column(f"p({label})", "score", default=False) for label in facts.labels]
    columns = (*names, Column("label"), Column("probability", "score"), *shares)
    answers = [(p.label, p.probability, *p.probabilities.values()) for p in predictions]
    return Table("predictions", "Predictions", columns, _joined(texts, answers))


def _joined(
    texts: Sequence[tuple[str, ...]], answers: Sequence[tuple[Cell, ...]]
) -> tuple[tuple[Cell, ...], ...]:
    return tuple((*text, *answer) for text, answer in zip(texts, answers, strict=True))


@click.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Times per task.",
)
@task_options
@base_option
@format_option()
@with_place
def swap(
    tasks: tuple[str, ...],
    *,
    repeats: int,
    among: TaskFilter,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Measure switching among stored TASKs (default: all of the latest run) in milliseconds.

    decode reads a file and checks it, apply puts a diff on the model, revert takes it off, swap
    goes from one task to the next, reload loads every weight from one file. The base must come
    through bit for bit.

    \b
    Example:
      streamlab swap
      streamlab swap sst2 rte --repeats 100 --format json
    """
    from streamlab.inference.latency import measure_switching

    home = opened(place)
    words = {word: word for word in tasks} or {
        name: f"task:{name}" for name in home.tasks(among.run or "latest")
    }
    if not words:
        raise UsageError(
            "The run has no finished task to switch among. Name another with `--run`, or run one."
        )
    found = {name: find_task(home, word, among) for name, word in words.items()}
    for word, task in found.items():
        click.echo(described(word, task), err=True)
    first = next(iter(found.values()))
    loaded = home.load_base(first.base_fingerprint, model=base)
    print_table(_timing_table(measure_switching(loaded, found, repeats=repeats)), form)
    click.echo("The base came through bit for bit.", err=True)


def _timing_table(timings: Sequence[Timing]) -> Table:
    whole = timings[-1].median
    columns = (
        Column("step"),
        Column("p50_ms", "ratio"),
        Column("p99_ms", "ratio"),
        Column("p50_over_reload", "ratio"),
        Column("n", "count"),
    )
    rows = tuple(
        (t.step, 1e3 * t.median, 1e3 * t.p99, t.median / whole, len(t.seconds)) for t in timings
    )
    return Table("switching", "Switching", columns, rows)


@click.command()
@click.argument("task")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder that is not there yet, or is empty.",
)
@task_options
@base_option
@with_place
def merge(task: str, *, folder: Path, among: TaskFilter, base: str | None, place: Place) -> None:
    """Write the base with the diff of TASK merged into it as a folder for `transformers`.

    It holds weights, configuration (with the task's labels) and tokenizer, and answers exactly
    as base and diff do. The folder appears when it is whole.

    \b
    Example:
      streamlab merge sst2 --to ./sst2-model
    """
    from streamlab.inference.merge import check_free, merge_to

    check_free(folder)
    home = opened(place)
    stored = find_task(home, task, among)
    click.echo(described(task, stored), err=True)
    stored.facts()  # what cannot be used is told before the base is loaded
    made = merge_to(home.load_base(stored.base_fingerprint, model=base), stored, folder)
    click.echo(folder)
    click.echo(
        f"{format_bytes(made.n_bytes)}, {made.n_changed:,} weights other than the base's. Read "
        "back and compared: bit for bit. Load it with "
        "`AutoModelForSequenceClassification.from_pretrained`.",
        err=True,
    )
