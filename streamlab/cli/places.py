"""`--home` and `--registry`: where a command finds what is remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamlab.errors import RegistryError
from streamlab.home.folder import Home

if TYPE_CHECKING:
    from streamlab.registry.registry import Registry

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
        if self.registry is None and not self.home.has_registry:
            raise RegistryError(
                f"There is no registry in the home {self.home.path}. Name another home with "
                "`--home` or STREAMLAB_HOME, or make one with `streamlab run SCENARIO.yaml`."
            )


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
