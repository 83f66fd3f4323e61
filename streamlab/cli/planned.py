"""What `fit` and `simulate` have in common: the options, and the run they go by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from streamlab.cli.places import Place
from streamlab.cli.quantities import BYTES, SHARE
from streamlab.planning.measured import Measured, measure

Command = TypeVar("Command", bound=Callable[..., Any])


def run_option(command: Command) -> Command:
    """Give a command `--run`."""
    return click.option(
        "--run", metavar="NAME", default="latest", help="A run's name or number; default: latest."
    )(command)


def density_option(command: Command) -> Command:
    """Give a command `--density`."""
    return click.option(
        "--density", type=SHARE, metavar="SHARE", help="Suppose another density, as 0.1%."
    )(command)


def block_option(command: Command) -> Command:
    """Give a command `--block`."""
    return click.option(
        "--block",
        type=BYTES,
        metavar="BYTES",
        default=4096,
        show_default=True,
        help="A file takes whole blocks of the disk.",
    )(command)


def measured_run(place: Place, run: str) -> Measured:
    """Read what a run's own stream takes, the registry's own file included."""
    with place.open() as registry:
        # Here, so that `--help` costs no SQLAlchemy.
        from streamlab.home.folder import empty_file_bytes, find_file_bytes

        n_bytes = find_file_bytes(place.url)
        empty = 0 if n_bytes is None else empty_file_bytes()
        return measure(registry, run, file_bytes=n_bytes, empty_bytes=empty)
