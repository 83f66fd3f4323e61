"""Commands that use a stored diff on its base: `predict`, `swap` and `merge`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.completion import ARTIFACTS, names_of
from streamlab.cli.options import (
    Place,
    base_option,
    file_option,
    find_stored,
    number_option,
    opened,
    task_options,
    where_option,
    with_place,
)
from streamlab.cli.output import Format, format_option, note, print_line, print_table
from streamlab.cli.progress import busy
from streamlab.errors import UsageError
from streamlab.registry.references import find_arrivals, find_artifact
from streamlab.units import counted, format_bytes
from streamlab.views.listings import parse_where
from streamlab.views.table import Column, Table, columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.inference.latency import Timing
    from streamlab.inference.merge import Merged
    from streamlab.inference.stored_task import ServedTask, TaskDescription, Text
    from streamlab.library.home import OpenHome
    from streamlab.registry.conditions import Condition
    from streamlab.registry.references import TaskFilter
    from streamlab.tasks.types.contract import Prediction


@click.command()
@click.argument("task", required=False, shell_complete=names_of(*ARTIFACTS))
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--pair", "pairs", nargs=2, multiple=True, metavar="A B", help="Predict for a pair of texts."
)
@file_option("--file", text="Predict for the examples in this JSONL, CSV, TSV or Parquet file.")
@click.option(
    "--glue-submission",
    "submission",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the files of a submission to the GLUE leaderboard.",
)
@click.option(
    "--test-data",
    envvar="STREAMLAB_DATA",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="GLUE's test sets, for --glue-submission (STREAMLAB_DATA); default: from the hub.",
)
@number_option("--batch-size", "Texts per forward pass.", default=64)
@task_options
@base_option
@format_option()
@with_place
def predict(
    task: str | None,
    texts: tuple[str, ...],
    *,
    pairs: tuple[tuple[str, str], ...],
    file: Path | None,
    submission: Path | None,
    test_data: Path | None,
    batch_size: int,
    among: TaskFilter,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Answer TEXTs with the stored diff of TASK: labels, values, entities or completions.

    TASK is a task, TASK@VERSION, an arrival, a diff or a tag (see `streamlab show --help`). A task
    means its highest version by the primary method in the latest run that has one.

    Without TEXT, --pair or --file, texts are read from standard input: one per line, the texts of
    a pair separated by a tab, or JSON Lines. Examples have the columns of the task's own data, or
    `text` (and `text2`). json and csv hold the probability of every label or the tag of every
    word.

    --glue-submission takes no TASK: it predicts for all of GLUE's test sets with the nine tasks of
    a run (default: the latest), by their datasets. DIR must be new or empty.

    \b
    Example:
      streamlab predict sst2 "a gripping, funny film"
      streamlab predict rte --pair "A man sleeps." "Somebody is asleep."
      streamlab predict sst2 --file reviews.jsonl --format csv
    """
    if submission is not None:
        if task or pairs or file:
            raise UsageError(
                "`--glue-submission` predicts for GLUE's test sets alone. Leave TASK, texts, "
                "`--pair` and `--file` out."
            )
        _submit(submission, test_data, opened(place), among, base=base, batch_size=batch_size)
        return
    if task is None:
        raise UsageError("Name a TASK to predict with; `streamlab ls tasks` lists them.")
    if sum(map(bool, (texts, pairs, file))) > 1:
        raise UsageError("Give only one of texts, `--pair` and `--file`.")
    home = opened(place)
    stored = find_stored(home, task, among)
    description = stored.description()
    examples: Sequence[Text] = texts or pairs or _read(file, description, stored.artifact.columns)
    with busy("loading the base"):
        loaded = home.load_base(stored.base_fingerprint, model=base)
    with stored.applied(loaded) as served:
        predictions = _predicted(served, examples, batch_size)
    print_table(_prediction_table(description, examples, predictions), form)


def _submit(
    folder: Path,
    test_data: Path | None,
    home: OpenHome,
    among: TaskFilter,
    *,
    base: str | None,
    batch_size: int,
) -> None:
    """Predict for every test set of GLUE, and write the files of a submission."""
    from streamlab.inference.glue_submission import (
        answer_tests,
        find_models,
        read_tests,
        write_submission,
    )
    from streamlab.inference.merge import check_free
    from streamlab.tasks.sources.hub import HubReach

    check_free(folder)
    run = among.run or "latest"
    among = replace(among, run=run)
    models = find_models(
        {name: find_stored(home, f"task:{name}", among) for name in home.tasks(run)}
    )
    tests = read_tests(test_data, HubReach())
    with busy("loading the base"):
        loaded = home.load_base(next(iter(models.values())).base_fingerprint, model=base)
    answers = []
    for one in answer_tests(loaded, models, tests, batch_size=batch_size):
        answers.append(one)
        n_lines, expected = len(one.lines), one.file.n_examples
        note(f"{one.file.file_name}: {counted(n_lines, 'example')}")
        if n_lines != expected:
            note(f"  warning: GLUE's test set has {expected:,}; the leaderboard refuses others.")
    for path in write_submission(folder, answers):
        print_line(path)


def _read(
    file: Path | None, description: TaskDescription, columns: Mapping[str, str | None]
) -> list[Text]:
    from streamlab.inference.inputs import read_lines, texts_in

    if file is not None:
        from streamlab.tasks.sources.readers import read_split

        split = read_split(file)
        split.refuse_malformed()
        return texts_in(split.records, description, columns, origin=split.origin)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "There are no texts. Give texts, `--pair`, `--file`, or one text per line on standard "
            "input."
        )
    origin = "standard input"
    # Bytes that are not UTF-8 are refused later, with their example.
    lines = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape").split("\n")
    records = read_lines(lines, origin=origin, pairs=description.takes_pairs)
    n_empty = sum(not line.strip() for line in lines[: None if lines[-1] else -1])
    if n_empty:
        note(f"{counted(n_empty, 'empty line')} skipped.")
    return texts_in(records, description, columns, origin=origin)


def _predicted(served: ServedTask, examples: Sequence[Text], batch_size: int) -> list[Prediction]:
    encoded = served.encode(examples)
    if encoded.n_truncated:
        note(
            f"{encoded.n_truncated} of {len(examples)} examples were truncated to "
            f"{encoded.max_length} tokens, as in training."
        )
    return served.answer(examples, encoded, batch_size=batch_size)


def _prediction_table(
    description: TaskDescription, examples: Sequence[Text], predictions: Sequence[Prediction]
) -> Table:
    of_type = description.type
    texts = [of_type.shown(text) for text in examples]
    answers = (
        Column(one.name, one.kind, default=one.shown)
        for one in of_type.answer_columns(description.labels)
    )
    known = (*columns("text, text2")[: len(texts[0])], *answers)
    rows = [
        (*text, *of_type.answer_row(answer))
        for text, answer in zip(texts, predictions, strict=True)
    ]
    return Table("predictions", "Predictions", known, tuple(rows))


@click.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=names_of(*ARTIFACTS))
@number_option("--repeats", "Repetitions per task.", default=20)
@where_option("Only tasks whose arrival meets this condition")
@task_options
@base_option
@format_option()
@with_place
def swap(
    tasks: tuple[str, ...],
    *,
    repeats: int,
    where: str | None,
    among: TaskFilter,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Measure switching among stored TASKs in milliseconds; the default is all of the latest run.

    \b
    decode  read a file and check it
    apply   apply a diff to the base
    revert  restore the base
    swap    go from one task to the next
    reload  load every weight from one file

    The base is compared bit for bit before and after.

    \b
    Example:
      streamlab swap
      streamlab swap sst2 rte --repeats 100 --format json
    """
    from streamlab.inference.latency import measure_switching

    condition = parse_where("arrivals", where)
    home = opened(place)
    references = {task: task for task in tasks} or {
        name: f"task:{name}" for name in home.tasks(among.run or "latest")
    }
    if not references:
        raise UsageError("The run has no finished task. Name another run with `--run`.")
    if condition is not None:
        references = _meeting(home, references, among, condition)
    found = {name: find_stored(home, text, among) for name, text in references.items()}
    first = next(iter(found.values()))
    with busy("loading the base"):
        loaded = home.load_base(first.base_fingerprint, model=base)
    print_table(_timing_table(measure_switching(loaded, found, repeats=repeats)), form)
    note("The base is unchanged, bit for bit.")


def _meeting(
    home: OpenHome, references: Mapping[str, str], among: TaskFilter, condition: Condition
) -> dict[str, str]:
    """Return the references to tasks of whose arrival a condition is true."""
    with home.registry() as registry:
        ids = {arrival.id for arrival in find_arrivals(registry, (), where=condition)}
        arrivals = {
            name: find_artifact(registry, text, among).arrival for name, text in references.items()
        }
    found = {name: references[name] for name, a in arrivals.items() if a and a.id in ids}
    if not found:
        raise UsageError(
            f"The condition is true of none of {', '.join(references)}. `streamlab ls arrivals "
            "--where` lists the arrivals that meet one."
        )
    return found


_TIMING_COLUMNS = columns("step, p50_ms: ratio, p99_ms: ratio, p50_over_reload: ratio, n: count")


def _timing_table(timings: Sequence[Timing]) -> Table:
    whole = timings[-1].median
    rows = tuple(
        (t.step, 1e3 * t.median, 1e3 * t.p99, t.median / whole, len(t.seconds)) for t in timings
    )
    return Table("switching", "Switching", _TIMING_COLUMNS, rows)


@click.command()
@click.argument("task", metavar="TASK|FILE", shell_complete=names_of(*ARTIFACTS))
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write; it must be new or empty.",
)
@task_options
@base_option
@with_place
def merge(task: str, *, folder: Path, among: TaskFilter, base: str | None, place: Place) -> None:
    """Write the base with the diff of TASK applied as a model folder for `transformers`.

    It holds weights, configuration (with the task's labels) and tokenizer, and its outputs equal
    those of base and diff. The folder appears when it is complete.

    A FILE, whose name ends in `.sldiff`, needs --base and no home. It is merged one tensor at a
    time, in the dtype of the base's checkpoint, so that the model may be larger than memory.

    \b
    Example:
      streamlab merge sst2 --to ./sst2-model
      streamlab merge sst2.sldiff --base ./base --to ./merged
    """
    from streamlab.inference.merge import check_free, merge_to

    check_free(folder)
    if task.endswith(".sldiff"):
        made = _merge_file(Path(task), base, folder)
    else:
        home = opened(place)
        stored = find_stored(home, task, among)
        stored.description()  # refuse what cannot be used before the base is loaded
        with busy("merging base and diff"):
            made = merge_to(home.load_base(stored.base_fingerprint, model=base), stored, folder)
    print_line(folder)
    note(
        f"{format_bytes(made.n_bytes)}, {made.n_changed:,} weights differ from the base. Read back "
        f"and compared, bit for bit. Load it with `{made.model_class}.from_pretrained`."
    )


def _merge_file(path: Path, base: str | None, folder: Path) -> Merged:
    from streamlab.base import BaseSettings
    from streamlab.inference.checkpoint_merge import merge_file
    from streamlab.inference.import_file import read_diff

    if base is None:
        raise UsageError(f"Give the base of {path} with `--base`.")
    with busy("merging base and diff"):
        return merge_file(BaseSettings(model=base), read_diff(path), folder)
