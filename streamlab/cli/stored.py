"""Options that say which stored task is meant, and where its base lies."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamlab.inference.refs import Narrowing
from streamlab.views.table import readable

if TYPE_CHECKING:
    from streamlab.cli.places import Place
    from streamlab.inference.open_home import OpenHome
    from streamlab.inference.stored_task import StoredTask

Command = TypeVar("Command", bound=Callable[..., Any])


def narrowing_options(command: Command) -> Callable[..., Any]:
    """Give a command `--run`, `--seed` and `--method`, handed to it as `narrowing`."""

    @click.option("--run", metavar="NAME", help="Look a task up in this run.")
    @click.option("--seed", type=int, metavar="N", help="Look a task up under this seed.")
    @click.option("--method", metavar="NAME", help="By this method, not the run's own.")
    @wraps(command)
    def narrowed(
        *args: Any, run: str | None, seed: int | None, method: str | None, **options: Any
    ) -> Any:
        return command(*args, narrowing=Narrowing(run, seed, method), **options)

    return narrowed


base_option = click.option(
    "--base", metavar="MODEL", help="Where the base lies now, if no longer where it did."
)


def opened(place: Place) -> OpenHome:
    """Open the home that a command was pointed at."""
    from streamlab.inference.open_home import open_home

    return open_home(place.home.path, registry_url=place.registry)


def find_task(home: OpenHome, word: str, narrowing: Narrowing) -> StoredTask:
    """Find the stored task that a word means."""
    return home.task(word, run=narrowing.run, seed=narrowing.seed, method=narrowing.method)


def described(word: str, task: StoredTask) -> str:
    """Say in one line what a word was taken to mean."""
    arrival, digest = task.chosen.arrival, task.chosen.diff.digest[:12]
    if arrival is None:
        return f"{word}: diff {digest}"
    learnt = {
        "synthetic": "learnt from synthetic data",
        "import": f"from the file {arrival.source_detail}",
    }.get(arrival.source, f"learnt from rows from {arrival.source}")
    version = "" if arrival.version == 1 else f"@{arrival.version}"
    told = (
        f"{arrival.task}{version}: arrival {arrival.id} of {arrival.run}, {arrival.method}, seed "
        f"{arrival.seed}, {learnt}; diff {digest}"
    )
    return readable(told, "text")  # names of an imported file must not steer the terminal
