"""`streamlab predict`: what a stored task answers for texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.stored import base_option, described, find_task, narrowing_options, opened
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.views.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.inference.refs import Narrowing
    from streamlab.inference.stored_task import Prediction, ServedTask, TaskDescription, Text


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
@narrowing_options
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
    narrowing: Narrowing,
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
    stored = find_task(home, task, narrowing)
    click.echo(described(task, stored), err=True)
    facts = stored.facts()
    rows: Sequence[Text] = texts or pairs or _read(file, facts, stored.chosen.columns)
    loaded = home.load_base(stored.base_fingerprint, model=base)
    with stored.applied(loaded) as served:
        predictions = _answered(served, rows, batch_size)
    table = _table(facts, rows, predictions)
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


def _table(
    facts: TaskDescription, rows: Sequence[Text], predictions: Sequence[Prediction]
) -> Table:
    texts = [(row,) if isinstance(row, str) else row for row in rows]
    names = [Column("text"), Column("text2")][: len(texts[0])]
    if facts.kind == "regression":
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
