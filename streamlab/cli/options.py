"""Options that several commands share: the home, references, scenarios, amounts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamlab.cli.completion import RUNS, names_of
from streamlab.cli.output import note
from streamlab.cli.progress import busy
from streamlab.errors import UsageError
from streamlab.files import check_target
from streamlab.home.folder import Home
from streamlab.registry.references import LATEST, TaskFilter
from streamlab.units import BYTE_UNITS, COUNT_UNITS, SHARE_UNITS, Units, nearest, parse_amount
from streamlab.views.table import readable

if TYPE_CHECKING:
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.stored_task import StoredTask
    from streamlab.library.home import OpenHome
    from streamlab.registry.registry import Registry
    from streamlab.stream.scenario import LoadedScenario

    Choice = click.Choice[str]
    AmountType = click.ParamType[float]
else:  # below click 8.2 they take no parameter
    Choice = click.Choice
    AmountType = click.ParamType

DEFAULT_HOME = "streamlab-home"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Place:
    """The home, the registry and the store that a command works on."""

    home: Home
    registry: str | None  # a URL given with `--registry`
    store_url: str | None = None  # given with `--store`

    @property
    def url(self) -> str:
        """Return the URL of the registry: the one given, else the home's own."""
        return self.registry or self.home.registry_url

    def open(self, *, read_only: bool = True) -> Registry:
        """Open the registry, read-only by default; it is never created or upgraded.

        Raises RegistryError where there is none, or it has an older version.
        """
        self.require()
        from streamlab.registry.registry import Registry

        registry = Registry.open(self.url, clock=time.time, read_only=True, on_damage=_note_damage)
        if read_only:
            return registry
        registry.close()
        return Registry.open(self.url, clock=time.time, on_damage=_note_damage)

    def find_store(self, registry: Registry, *, changing: bool = False) -> ArtifactStore:
        """Return the store of the registry's artifacts, also one to change: see `claim_store`."""
        from streamlab.home.store_location import claim_store, find_store

        if changing:
            return claim_store(self.home, registry, self.store_url)[0]
        return find_store(self.home, registry, self.store_url)

    def require(self) -> None:
        """Raise RegistryError where the home has no registry and no URL was given."""
        if self.registry is None:
            self.home.require_registry()


def _note_damage(text: str) -> None:
    note(f"{text} It was left out; `streamlab verify` lists what is damaged.")


def _bundled(
    name: str, build: Callable[..., object], *options: Callable[..., Any]
) -> Callable[[Command], Callable[..., Any]]:
    """Return a decorator that adds options, which the command gets as one argument.

    `build` makes it from the options, which are its parameters.
    """
    parameters = signature(build).parameters

    def decorate(command: Command) -> Callable[..., Any]:
        @wraps(command)
        def with_bundle(*args: Any, **given: Any) -> Any:
            value = build(**{parameter: given.pop(parameter) for parameter in parameters})
            return command(*args, **{name: value}, **given)

        bundled: Callable[..., Any] = with_bundle
        for option in reversed(options):
            bundled = option(bundled)
        return bundled

    return decorate


# Add `--home`, `--registry` and `--store`, passed to the command as `place`.
with_place = _bundled(
    "place",
    lambda home, registry, store: Place(Home(home), registry, store),
    click.option(
        "--home",
        envvar="STREAMLAB_HOME",
        default=DEFAULT_HOME,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help=f"The home folder (STREAMLAB_HOME; default: ./{DEFAULT_HOME}).",
    ),
    click.option(
        "--registry",
        envvar="STREAMLAB_REGISTRY",
        metavar="URL",
        help="SQLAlchemy URL of a registry outside the home (STREAMLAB_REGISTRY).",
    ),
    click.option(
        "--store",
        envvar="STREAMLAB_STORE",
        metavar="URL",
        help="Files outside the home, as s3://BUCKET/PREFIX (STREAMLAB_STORE).",
    ),
)


def run_named(text: str, *, default: str | None = None) -> Callable[[Command], Command]:
    """Add `--run`, which takes a reference to a run; `text` is its help."""
    return click.option(
        "--run",
        metavar="RUN",
        default=default,
        show_default=True,
        shell_complete=names_of(*RUNS, words=(LATEST,)),
        help=text,
    )


# Add `--run`, `--seed` and `--method`, passed to the command as `among`.
task_options = _bundled(
    "among",
    TaskFilter,
    run_named("Look the task up in this run."),
    click.option("--seed", type=int, metavar="N", help="Use the arrival with this seed."),
    click.option("--method", metavar="NAME", help="Use the arrival by this method."),
)
base_option = click.option(
    "--base", metavar="MODEL", help="Load the base from here; default: from where it was recorded."
)
run_option = run_named("The run to read.", default=LATEST)


def where_option(text: str) -> Callable[[Command], Command]:
    """Add `--where`, which the command gets as one condition; `text` is its help."""
    more = "(docs/reference/where.md); repeat to require several."
    return click.option(
        "--where", metavar="EXPR", multiple=True, callback=_all_of, help=f"{text} {more}"
    )


def _all_of(
    _ctx: click.Context, _param: click.Parameter, conditions: tuple[str, ...]
) -> str | None:
    if len(conditions) < 2:
        return next(iter(conditions), None)
    return " and ".join(f"({condition})" for condition in conditions)


set_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting."
)


def _load_scenario(scenario: Path, overrides: tuple[str, ...]) -> LoadedScenario:
    with busy("loading libraries"):
        from streamlab.stream.scenario import load_scenario

        loaded = load_scenario(scenario, overrides=overrides)
    for sentence in loaded.notes:
        note(sentence)
    return loaded


# Add the argument SCENARIO and `--set`, passed to the command as `loaded`.
with_scenario = _bundled(
    "loaded",
    _load_scenario,
    click.argument("scenario", type=click.Path(path_type=Path)),
    set_option,
)


def number_option(
    name: str, text: str, *, default: int | None = None, least: int = 1
) -> Callable[[Command], Command]:
    """Add an option that takes a whole number of `least` or more; `text` is its help."""
    return click.option(
        name,
        type=click.IntRange(min=least),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )


def file_option(*names: str, text: str, **more: Any) -> Callable[[Command], Command]:
    """Add an option that takes the path of a file; `text` is its help."""
    path = click.Path(path_type=Path, dir_okay=False)
    return click.option(*names, type=path, metavar="FILE", help=text, **more)


def output_option(*names: str, text: str, **more: Any) -> Callable[[Command], Command]:
    """Add an option that takes the file to write, refused before any work if it can be none."""
    return file_option(*names, text=text, callback=_output, **more)


def _output(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        check_target(path)
    return path


class OneOf(Choice):
    """A choice among names whose error suggests the nearest; `what` is the noun for it."""

    def __init__(self, names: tuple[str, ...], *, what: str) -> None:
        super().__init__(names)
        self.names = names
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name. Raises UsageError where it is unknown."""
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


def opened(place: Place) -> OpenHome:
    """Open the home for inference."""
    with busy("loading libraries"):
        from streamlab.library.home import open_home

    return open_home(place.home.path, registry_url=place.registry, store_url=place.store_url)


def find_stored(home: OpenHome, reference: str, among: TaskFilter) -> StoredTask:
    """Return the stored task that a reference means, and print which one it is."""
    task = home.task(reference, run=among.run, seed=among.seed, method=among.method)
    note(_description(reference, task))
    return task


def _description(reference: str, task: StoredTask) -> str:
    """Return one line on what a reference means."""
    arrival, digest = task.artifact.arrival, task.artifact.diff.digest[:12]
    if arrival is None:
        return f"{reference}: diff {digest}"
    data = {
        "synthetic": "trained on synthetic data",
        "import": f"from the file {arrival.source_detail}",
    }.get(arrival.source, f"trained on examples from {arrival.source}")
    version = "" if arrival.version == 1 else f"@{arrival.version}"
    text = (
        f"{arrival.task}{version}: arrival {arrival.id} of {arrival.run}, {arrival.method}, seed "
        f"{arrival.seed}, {data}; diff {digest}"
    )
    return readable(text, "text")  # names from an imported file must not control the terminal
