"""Commands on exact differences: `apply` and `chain`; `diff` writes them too."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.options import output_option
from streamlab.cli.output import Format, format_option, note, print_line, print_table
from streamlab.cli.progress import busy
from streamlab.errors import UsageError
from streamlab.exact.tensor_files import TENSOR_SUFFIX
from streamlab.units import format_bytes
from streamlab.views.table import Table, columns

if TYPE_CHECKING:
    from streamlab.exact.change_file import Written

_to_folder = partial(
    click.option,
    "--to",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to write, new or empty.",
)
_checkpoint = click.Path(exists=True, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_chain = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


def write_exact(base: str, tuned: str, output: Path, form: Format) -> None:
    """Write an exact difference and say what it takes, for `diff`."""
    from streamlab.exact.change_file import write_change

    with busy("comparing the checkpoints"):
        made = write_change(_place(base), _place(tuned), output)
    print_table(_size_table(made), form)
    change = made.change
    changed = f"{made.n_changed:,} of {made.n_weights:,} weights change"
    note(f"{output}: {changed}; SHA-256 {change.digest}")
    note("Read back and compared: gives TUNED's tensors, bit for bit.")


def write_sparse(base: str, tuned: str, output: Path) -> None:
    """Write a sparse patch and say how much it changes, for `diff`."""
    from streamlab.exact.patch_file import write_patch

    with busy("comparing the checkpoints"):
        n_changed = write_patch(_place(base), _place(tuned), output)
    print_line(output)
    note(f"{n_changed:,} weights change; {format_bytes(output.stat().st_size)}.")


def _place(checkpoint: str) -> Path:
    place = Path(checkpoint)
    if not place.exists():
        raise UsageError(
            f"There is no folder or file {checkpoint}. An exact difference is between two on this "
            "disk; download others first."
        )
    return place


def _size_table(made: Written) -> Table:
    change = made.change
    bits = 8 * change.n_bytes / made.n_changed if made.n_changed else None
    rows = (
        ("difference", change.n_bytes, bits),
        ("TUNED's files of tensors", made.result_bytes, None),
    )
    shape = columns("part, bytes: count, bits_per_changed_weight: ratio")
    return Table("difference", "An exact difference", shape, rows)


@click.command()
@click.argument("base", type=_checkpoint)
@click.argument("files", nargs=-1, required=True, type=_file)
@_to_folder("folder")
def apply(base: Path, *, files: tuple[Path, ...], folder: Path) -> None:
    """Apply exact differences to BASE, in order, and write the last result.

    BASE is the folder or the safetensors file that the first of FILES was made from, and each
    further one follows the one before; any other is refused. The result has the files that the
    last difference was made from, byte for byte, and is verified before it appears.

    FILES may also be one sparse patch (`.safetensors`), which does not say what it belongs to.

    \b
    Example:
      streamlab apply ./step-20 21.slexact 22.slexact --to ./two-later
    """
    from streamlab.exact.chain import apply_in_order
    from streamlab.exact.patch_file import apply_patch

    if any(path.suffix == TENSOR_SUFFIX for path in files):
        if len(files) > 1:
            raise UsageError("A sparse patch is applied alone; give one file.")
        with busy("applying"):
            n_changed = apply_patch(base, files[0], folder)
        print_line(folder)
        note(f"{n_changed:,} weights were set. The patch does not say which base it belongs to.")
        return
    with busy("applying"):
        change = apply_in_order(base, files, folder)
    print_line(folder)
    note(f"Verified: its tensors have the fingerprint {change.result}.")


@click.group(cls=SuggestingGroup)
def chain() -> None:
    """Keep many checkpoints of one training as exact differences.

    A chain is a folder with whole checkpoints now and then, and between them differences, each of
    the checkpoint before it.

    \b
    Example:
      streamlab chain add ./chain ./step-20 --whole-every 10
      streamlab chain verify ./chain
    """


@chain.command()
@_chain
@click.argument("checkpoint", type=_checkpoint)
@click.option(
    "--whole-every",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Store every so many checkpoints whole.",
)
def add(folder: Path, checkpoint: Path, *, whole_every: int) -> None:
    """Add CHECKPOINT to the end of the chain in FOLDER.

    \b
    Example:
      streamlab chain add ./chain ./step-21
    """
    from streamlab.exact.chain import Chain

    with busy("comparing with the checkpoint before"):
        link = Chain(folder).add(checkpoint, whole_every=whole_every)
    print_line(link.path)
    note(f"Checkpoint {link.number}, {format_bytes(link.n_bytes)}.")


@chain.command()
@_chain
@click.argument("number", type=int)
@_to_folder("to")
def restore(folder: Path, number: int, *, to: Path) -> None:
    """Write checkpoint NUMBER of the chain in FOLDER; the first is 0.

    \b
    Example:
      streamlab chain restore ./chain 7 --to ./step-27
    """
    from streamlab.exact.chain import Chain

    with busy("applying"):
        Chain(folder).restore(number, to)
    print_line(to)


@chain.command()
@_chain
@click.argument("first", type=int)
@click.argument("last", type=int)
@output_option("-o", "--output", text="The file to write.", required=True)
def squash(folder: Path, first: int, last: int, *, output: Path) -> None:
    """Write one difference from checkpoint FIRST to LAST of the chain in FOLDER.

    \b
    Example:
      streamlab chain squash ./chain 0 7 -o seven-steps.slexact
    """
    from streamlab.exact.chain import Chain

    with busy("applying and comparing"):
        change = Chain(folder).squash(first, last, output)
    print_line(output)
    note(f"{format_bytes(change.n_bytes)}; SHA-256 {change.digest}")


@chain.command()
@_chain
@format_option()
@click.pass_context
def verify(ctx: click.Context, folder: Path, *, form: Format) -> None:
    """Check that every checkpoint of the chain in FOLDER follows the one before it.

    Files are checked against their digests, and differences against the fingerprints at which
    they begin and end. The exit code is 1 if anything is wrong.

    \b
    Example:
      streamlab chain verify ./chain
    """
    from streamlab.exact.chain import Chain

    with busy("checking"):
        found = list(Chain(folder).verify())
    if not found:
        raise UsageError(f"There is no chain in {folder}. `streamlab chain add` makes one.")
    rows = tuple(
        (link.number, "whole" if link.is_whole else "difference", link.n_bytes, wrong or "good")
        for link, wrong in found
    )
    shape = columns("number: count, stored, bytes: count, state")
    print_table(Table("chain", "Checkpoints of the chain", shape, rows), form)
    if any(wrong for _, wrong in found):
        ctx.exit(1)
