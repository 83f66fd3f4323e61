"""Options and arguments that several commands share: the home, stored tasks, runs, amounts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.registry.references import TaskFilter
from streamlab.units import BYTE_UNITS, COUNT_UNITS, SHARE_UNITS, Units, nearest, parse_amount
from streamlab.views.table import readable

if TYPE_CHECKING:
    from streamlab.inference.open_home import OpenHome
    from streamlab.inference.stored_task import StoredTask
    from streamlab.registry.registry import Registry

    Choice = click.Choice[str]
    AmountType = click.ParamType[float]
else:  # below click 8.2 they take no parameter
    Choice = click.Choice
    AmountType = click.ParamType

DEFAULT_HOME = "streamlab-home"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Place:
    """The home and the registry that a command was pointed at."""

    home: Home
    registry: str | None  # a URL given with `--registry`

    @property
    def url(self) -> str:
        """Return the URL of the registry: the one given, else the home's own."""
        return self.registry or self.home.registry_url

    def open(self, *, read_only: bool = True) -> Registry:
        """Open the registry, to be read unless said otherwise; it is never made or upgraded.

        Raises RegistryError where there is none, or it has an older version.
        """
        self.require()
        from streamlab.registry.registry import Registry

        registry = Registry.open(self.url, clock=time.time, read_only=True)
        if read_only:
            return registry
        registry.close()
        return Registry.open(self.url, clock=time.time)

    def require(self) -> None:
        """Raise RegistryError where the home, not another place, lacks its registry."""
        if self.registry is None:
            self.home.require_registry()


def with_place(command: Command) -> Callable[..., Any]:
    """Give a command `--home` and `--registry`, handed to it as `place`."""

    @click.option(
        "--home",
        envvar="STREAMLAB_HOME",
        default=DEFAULT_HOME,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help=f"Where everything is kept (STREAMLAB_HOME; default: ./{DEFAULT_HOME}).",
    )
    @click.option(
        "--registry",
        metavar="URL",
        help="An SQLAlchemy URL to use in place of the home's own registry.",
    )
    @wraps(command)
    def placed(*args: Any, home: Path, registry: str | None, **options: Any) -> Any:
        return command(*args, place=Place(Home(home), registry), **options)

    return placed


class OneOf(Choice):
    """A choice whose error names what was probably meant; `what` says what is chosen."""

    def __init__(self, names: tuple[str, ...], *, what: str) -> None:
        super().__init__(names)
        self.names = names
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it is. Raises UsageError where it is none of them."""
        if value not in self.names:
            near = nearest(str(value), self.names)
            raise UsageError(f"There is no {self.what} `{value}`. {near}")
        return super().convert(value, param, ctx)


class Amount(AmountType):
    """A number above 0 with a unit; a whole one unless `whole` is false."""

    def __init__(self, name: str, units: Units, hint: str, *, whole: bool = True) -> None:
        self.name = name
        self.units = units
        self.hint = hint
        self.whole = whole

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002
    ) -> int | float:
        """Return the amount. Raises UsageError where `value` is not one."""
        amount = parse_amount(str(value).strip(), self.units)
        if amount is None or amount <= 0 or (self.whole and not isinstance(amount, int)):
            option = f"`{param.opts[-1]}`" if param else "An amount"
            raise UsageError(f"{option} takes {self.hint}, got {value!r}.")
        return amount if self.whole else float(amount)


BYTES = Amount("bytes", BYTE_UNITS, "bytes above 0, as 64MB, 1.5GiB or 64000000")
COUNT = Amount("count", COUNT_UNITS, "a whole number above 0, as 340M or 340000000")
SHARE = Amount("share", SHARE_UNITS, "a share above 0 and at most 1, as 0.001 or 0.1%", whole=False)
RATE = Amount("rate", {"": 1}, "a number of tasks a day above 0, as 40 or 0.5", whole=False)


def task_options(command: Command) -> Callable[..., Any]:
    """Give a command `--run`, `--seed` and `--method`, handed to it as `among`."""

    @click.option("--run", metavar="NAME", help="Look a task up in this run.")
    @click.option("--seed", type=int, metavar="N", help="Look a task up under this seed.")
    @click.option("--method", metavar="NAME", help="By this method, not the run's own.")
    @wraps(command)
    def chosen_among(
        *args: Any, run: str | None, seed: int | None, method: str | None, **options: Any
    ) -> Any:
        return command(*args, among=TaskFilter(run, seed, method), **options)

    return chosen_among


base_option = click.option(
    "--base", metavar="MODEL", help="Where the base lies now, if no longer where it did."
)


def opened(place: Place) -> OpenHome:
    """Open the home that a command was pointed at."""
    from streamlab.inference.open_home import open_home

    return open_home(place.home.path, registry_url=place.registry)


def find_task(home: OpenHome, word: str, among: TaskFilter) -> StoredTask:
    """Find the stored task that a word means."""
    return home.task(word, run=among.run, seed=among.seed, method=among.method)


def described(word: str, task: StoredTask) -> str:
    """Say in one line what a word was taken to mean."""
    arrival, digest = task.artifact.arrival, task.artifact.diff.digest[:12]
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


def run_option(command: Command) -> Command:
    """Give a command `--run`."""
    return click.option(
        "--run", metavar="NAME", default="latest", help="A run's name or number; default: latest."
    )(command)
