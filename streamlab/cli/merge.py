"""`streamlab merge`: a stored task as a model folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.stored import base_option, described, find_task, narrowing_options, opened
from streamlab.units import format_bytes

if TYPE_CHECKING:
    from streamlab.inference.refs import Narrowing


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
@narrowing_options
@base_option
@with_place
def merge(task: str, *, folder: Path, narrowing: Narrowing, base: str | None, place: Place) -> None:
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
    stored = find_task(home, task, narrowing)
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
