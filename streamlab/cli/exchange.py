"""Commands that move artifacts and records in and out: `export`, `import` and `diff`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from streamlab.cli.completion import ARTIFACTS, names_of
from streamlab.cli.exact import write_exact, write_sparse
from streamlab.cli.options import (
    Place,
    base_option,
    find_stored,
    opened,
    output_option,
    task_options,
    where_option,
    with_place,
)
from streamlab.cli.output import Format, format_option, note, print_line, print_table
from streamlab.cli.progress import busy
from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.registry.records import IMPORTED
from streamlab.registry.references import find_run
from streamlab.units import counted, format_bytes
from streamlab.views.export import check_ending, write_table
from streamlab.views.listings import SUBJECTS, list_records
from streamlab.views.table import Table, columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.diff.format.values import ValueType
    from streamlab.home.import_home import Imported
    from streamlab.inference.checkpoint_diff import CheckpointDiff
    from streamlab.inference.import_adapter import ImportedAdapter
    from streamlab.inference.stored_task import StoredTask
    from streamlab.library.home import OpenHome
    from streamlab.registry.references import TaskFilter


to_file = output_option("-o", "--output", text="The file to write.", required=True)
values_option = click.option(
    "--values",
    type=click.Choice(("fp32", "fp16", "bf16", "int8", "int4", "int2", "ternary", "sign")),
    help="Type of the stored values (docs/reference/format.md).",
)


@click.command()
@click.argument("thing", shell_complete=names_of(*ARTIFACTS, words=SUBJECTS))
@to_file
@click.option(
    "--layout",
    type=click.Choice(("peft",)),
    help="Write a folder that PEFT loads: an adapter, or a diff that is a SHiRA adapter.",
)
@where_option("Of a table: only rows that meet this condition")
@task_options
@base_option
@with_place
def export(
    thing: str,
    *,
    output: Path,
    layout: str | None,
    where: str | None,
    among: TaskFilter,
    base: str | None,
    place: Place,
) -> None:
    """Write a table or a stored diff to a file; an existing file is replaced.

    THING is a listing of `streamlab ls`, written with raw values in every column as CSV or JSON
    by the file's ending, scores also where they were taken again after later arrivals; or a
    reference to a task, an arrival or a diff, whose file is written as it is stored.

    With `--layout peft` it is written as a new folder that the PEFT library loads on the base:
    adapters as they are stored, and diffs that change the matrices of linear layers alone.

    \b
    Example:
      streamlab export scores --run latest -o scores.csv
      streamlab export arrivals --where 'score > 80%' -o good.csv
      streamlab export sst2 -o sst2.sldiff
    """
    if thing not in SUBJECTS:
        if where is not None:
            raise UsageError(f"`--where` chooses rows of a table, and {thing!r} is none.")
        home = opened(place)
        stored = find_stored(home, thing, among)
        if layout is None:
            stored.save(output)
        else:
            _export_adapter(home, stored, output, base)
    elif layout is not None:
        raise UsageError(f"`--layout` is for an artifact, and {thing!r} is a table. Leave it out.")
    elif among.seed is not None or among.method is not None:
        raise UsageError(
            f"`--seed` and `--method` do not apply to the table {thing}. For a task of that name "
            f"write `task:{thing}`."
        )
    else:
        check_ending(output)
        with place.open() as registry:
            run = None if among.run is None else find_run(registry, among.run).name
            table = list_records(registry, thing, run=run, where=where, rescored=thing == "scores")
        write_table(table, output)
    print_line(output)


def _export_adapter(home: OpenHome, stored: StoredTask, output: Path, base: str | None) -> None:
    from streamlab.inference.export_adapter import export_adapter

    with home.registry() as registry:
        recorded = registry.bases.get(stored.base_fingerprint).model
    load_base = partial(home.load_base, stored.base_fingerprint, model=base)
    with busy("loading the base"):
        export_adapter(stored, output, base_name=base or recorded, load_base=load_base)


_IMPORT_COLUMNS = columns("source, run, arrivals: count, status")


@click.command("import")
@click.argument("words", metavar="FILE|HOME|peft DIR", nargs=-1, required=True)
@click.option(
    "--provider",
    metavar="NAME",
    shell_complete=names_of("provider"),
    help="The provider of FILE or DIR; default: imported.",
)
@click.option(
    "--task",
    metavar="NAME",
    help="The task; default: the one in FILE, or the name of DIR.",
)
@click.option(
    "--base", metavar="MODEL", multiple=True,
    help="Load the base from here: of a FILE or DIR, or of a HOME one that is not recorded; may "
    "repeat.",
)  # fmt: skip
@click.option("--labels", metavar="A,B", help="Of DIR: names of the outputs; default: LABEL_0, ...")
@values_option
@format_option()
@with_place
def import_(
    words: tuple[str, ...],
    *,
    provider: str | None,
    task: str | None,
    base: tuple[str, ...],
    labels: str | None,
    values: str | None,
    place: Place,
    form: Format,
) -> None:
    """Import a diff FILE, all finished runs of another HOME, or an adapter of PEFT.

    A FILE is checked against its base, which must be recorded here or be given by --base, and
    becomes the only arrival of a new run, by the method `imported`, without scores. With --base,
    the home may be new.

    `peft DIR` imports an adapter that the PEFT library saved. A SHiRA adapter becomes a diff, with
    the same values unless --values rounds them; other types stay adapters.

    Runs of a HOME keep their files, scores and curves; its bases must be recorded here, or be given
    by --base. Everything is checked first: all of it is imported or nothing. Existing records stay
    unchanged; a run whose name is taken gets the next number.

    \b
    Example:
      streamlab import sst2.sldiff --provider reviews_inc
      streamlab import ../other-home
    """
    source, is_adapter = _source(words)
    if not is_adapter and (labels or values):
        raise UsageError("`--labels` and `--values` are for adapters: `streamlab import peft DIR`.")
    if source.is_dir() and not is_adapter:
        if provider or task:
            raise UsageError("`--provider` and `--task` are for a FILE; leave them out for a HOME.")
        from streamlab.home.import_home import import_home

        found = import_home(
            place.home, place.url, Home(source), models=base, store_url=place.store_url
        )
        imported = [(result.source.run.name, result) for result in found]
    else:
        if len(base) > 1:
            raise UsageError("A FILE or an adapter has one base; give `--base` once.")
        options: dict[str, Any] = {
            "provider": provider or IMPORTED,
            "task": task,
            "model": next(iter(base), None),
        }
        if is_adapter:
            options |= {"labels": _names(labels), "value_type": values}
        bring_in = _import_adapter if is_adapter else _import_file
        imported = [(source.name, bring_in(place, source, options))]
    rows = tuple(
        (
            name,
            result.run.name,
            len(result.source.arrivals),
            "new" if result.is_new else "already here",
        )
        for name, result in imported
    )
    print_table(Table("imports", "Imports", _IMPORT_COLUMNS, rows), form)
    if not rows:
        note(f"The home {source} has no finished run.")


def _source(words: Sequence[str]) -> tuple[Path, bool]:
    """Return what is imported, and whether it is an adapter. Raises UsageError."""
    is_adapter = words[0] == "peft" and len(words) == 2
    if len(words) != 1 + is_adapter:
        raise UsageError("Give one FILE or HOME, or the word `peft` and a DIR.")
    source = Path(words[-1])
    if not source.exists():
        raise UsageError(f"{source} does not exist. Give a file, a home, or `peft` and a folder.")
    return source, is_adapter


def _import_file(place: Place, source: Path, options: Mapping[str, Any]) -> Imported:
    from streamlab.inference.import_file import import_file

    return import_file(place.home, place.url, source, store_url=place.store_url, **options)


def _import_adapter(place: Place, source: Path, options: Mapping[str, Any]) -> Imported:
    from streamlab.inference.import_adapter import import_adapter

    with busy("checking the adapter"):
        made = import_adapter(place.home, place.url, source, store_url=place.store_url, **options)
    note(_adapter_line(made))
    return made.imported


def _names(words: str | None) -> list[str]:
    """Return names that are separated by commas."""
    return [word.strip() for word in words.split(",")] if words else []


def _adapter_line(adapter: ImportedAdapter) -> str:
    diff, before = adapter.diff, format_bytes(adapter.folder_bytes)
    per_value = max(1, diff.n_entries)
    after = f"{format_bytes(diff.file_bytes)} here as a{'n' * (diff.kind == 'adapter')} {diff.kind}"
    return (
        f"{before} as PEFT's two files, {after}: {diff.n_entries:,} values, "
        f"{(diff.positions_bytes + diff.values_bytes) / per_value:.2f} bytes each with their "
        f"positions, as {diff.value_type}."
    )


@click.command()
@click.argument("base")
@click.argument("tuned")
@to_file
@click.option("--add", is_flag=True, help="Store rounded differences instead of exact weights.")
@values_option
@click.option("--task", metavar="NAME", help="The task's name; default: that of TUNED's folder.")
@click.option(
    "--labels", metavar="A,B", help="Names of the outputs; default: those in TUNED's configuration."
)
@click.option("--base-revision", metavar="COMMIT", help="Hub revision of BASE.")
@click.option("--tuned-revision", metavar="COMMIT", help="Hub revision of TUNED.")
@format_option()
def diff(
    base: str,
    tuned: str,
    *,
    output: Path,
    add: bool,
    values: str | None,
    task: str | None,
    labels: str | None,
    base_revision: str | None,
    tuned_revision: str | None,
    form: Format,
) -> None:
    """Write the diff that turns the checkpoint BASE into TUNED.

    Each is a folder, `package:NAME` or a hub id. The file holds TUNED's head and every weight
    whose bits differ, so that BASE and the file give TUNED bit for bit; this is checked. With
    --add it holds differences instead, as bf16 or the type of --values: smaller, but rounded.

    The type of the task, its labels and the longest text come from TUNED's configuration and
    tokenizer, so that the file can be imported and used. Models are read one tensor at a time.

    A file whose name ends in `.slexact` is an exact difference: of any two safetensors checkpoints
    of one architecture on this disk, small where all weights change too, and read by `streamlab
    apply` in place of `import`, `predict` and `merge`. One that ends in `.safetensors` is a sparse
    patch, of positions and values, as trainers and inference servers exchange them.

    \b
    Example:
      streamlab diff ./base ./tuned -o tuned.sldiff
      streamlab diff ./step-20 ./step-21 -o 21.slexact
    """
    from streamlab.exact.change_file import SUFFIX
    from streamlab.exact.tensor_files import TENSOR_SUFFIX

    if output.suffix in (SUFFIX, TENSOR_SUFFIX):
        if add or any((values, base_revision, tuned_revision, task, labels)):
            raise UsageError(
                f"An exact difference ({SUFFIX}) and a sparse patch ({TENSOR_SUFFIX}) are of two "
                "checkpoints on this disk, and have no options; leave them out, or write a "
                "`.sldiff`."
            )
        if output.suffix == SUFFIX:
            write_exact(base, tuned, output, form)
        else:
            write_sparse(base, tuned, output)
        return
    from streamlab.base import BaseSettings
    from streamlab.inference.checkpoint_diff import write_checkpoint_diff

    made = write_checkpoint_diff(
        BaseSettings(model=base, revision=base_revision),
        BaseSettings(model=tuned, revision=tuned_revision),
        output,
        exact=not add,
        value_type=cast("ValueType | None", values),
        task=task,
        labels=_names(labels),
    )
    print_table(_part_table(made), form)
    kept = f"{made.diff.n_entries:,} of {made.diff.n_gated:,} weights ({made.diff.density:.3%})"
    note(f"{output}: {kept}; SHA-256 {made.encoded.digest}")
    note(_task_line(made.diff.task))
    if made.left_out:
        note(
            f"Left out: {counted(len(made.left_out), 'tensor')} of TUNED that no classifier has, "
            f"such as `{made.left_out[0]}`."
        )
    if not add:
        note("Read back and compared: equals TUNED, bit for bit.")


def _task_line(task: Mapping[str, Any]) -> str:
    if "kind" not in task:
        return (
            f"The task {task['task']!r} has no type, since TUNED has no head that is known: the "
            "file can be merged, not imported and asked."
        )
    labels = f", labels {', '.join(task['labels'])}" if task["labels"] else ""
    return (
        f"The task {task['task']!r}: {task['kind']}{labels}, texts of {task['max_length']} tokens."
    )


def _part_table(made: CheckpointDiff) -> Table:
    parts = made.encoded.parts
    sizes = {name: getattr(parts, name) for name in ("positions", "values", "head", "metadata")}
    sizes |= {"file": len(made.encoded.data), "whole checkpoint": made.checkpoint_bytes}
    bounds = {"positions": round(made.positions_bound_bytes)}
    rows = tuple((name, size, bounds.get(name)) for name, size in sizes.items())
    return Table("parts", "Bytes by part", columns("part, bytes: count, bound: count"), rows)
