"""`streamlab diff`: the diff between two checkpoints, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from streamlab.cli.tables import Format, format_option, print_table
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from streamlab.diff.format.values import ValueType
    from streamlab.inference.checkpoint_diff import CheckpointDiff

_TYPES = ("fp32", "fp16", "bf16", "int8", "int4")


@click.command()
@click.argument("base")
@click.argument("tuned")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write."
)
@click.option("--add", is_flag=True, help="Hold rounded differences in place of exact weights.")
@click.option(
    "--values", type=click.Choice(_TYPES), help="How values are held; see docs/format.md."
)
@click.option("--base-revision", metavar="COMMIT", help="Of a hub id.")
@click.option("--tuned-revision", metavar="COMMIT", help="Of a hub id.")
@format_option()
def diff(
    base: str,
    tuned: str,
    *,
    output: Path,
    add: bool,
    values: str | None,
    base_revision: str | None,
    tuned_revision: str | None,
    form: Format,
) -> None:
    """Write the diff that turns the checkpoint BASE into TUNED.

    Each is a folder, `package:NAME` or a hub id. The file holds the weights whose bits differ,
    as they are, and TUNED's head: BASE and the file give TUNED back bit for bit, which is tried
    before this ends. With --add it holds differences, rounded to bf16 unless --values says
    otherwise: smaller, and close.

    \b
    Example:
      streamlab diff ./base ./tuned -o tuned.diff.safetensors
    """
    from streamlab.base import BaseSettings
    from streamlab.inference.checkpoint_diff import write_checkpoint_diff

    made = write_checkpoint_diff(
        BaseSettings(model=base, revision=base_revision),
        BaseSettings(model=tuned, revision=tuned_revision),
        output,
        exact=not add,
        value_type=cast("ValueType | None", values),
    )
    print_table(_table(made), form)
    kept = f"{made.diff.n_entries:,} of {made.diff.n_gated:,} weights ({made.diff.density:.3%})"
    click.echo(f"{output}: {kept}; SHA-256 {made.encoded.digest}", err=True)
    if not add:
        click.echo("Read back and compared: gives TUNED bit for bit.", err=True)


def _table(made: CheckpointDiff) -> Table:
    parts = made.encoded.parts
    sizes = {
        "positions": parts.positions,
        "values": parts.values,
        "head": parts.head,
        "metadata": parts.metadata,
        "file": len(made.encoded.data),
        "whole checkpoint": made.checkpoint_bytes,
    }
    bounds = {"positions": round(made.positions_bound_bytes)}
    return Table(
        "parts",
        "Bytes by part",
        (Column("part"), Column("bytes", "count"), Column("bound", "count")),
        tuple((name, size, bounds.get(name)) for name, size in sizes.items()),
    )
