"""Names of runs, tasks, tags and providers of the home, for the shell to complete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from streamlab.registry.registry import Registry

Name = Literal["run", "task", "provider", "run tag", "arrival tag", "diff tag"]
TAGS: tuple[Name, ...] = ("run tag", "arrival tag", "diff tag")
ARTIFACTS: tuple[Name, ...] = ("task", "arrival tag", "diff tag")  # what is stored is named by
RUNS: tuple[Name, ...] = ("run", "run tag")
ARRIVALS: tuple[Name, ...] = ("task", "run", *TAGS)
_PLAIN = re.compile(r"[\w.@-]{1,200}", re.ASCII)  # no other name is put into a shell's line

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(*kinds: Name, words: Sequence[str] = ()) -> Completer:
    """Return what completes a word by `words` and by the names of these kinds in the home.

    Without a registry that can be read there are no names, and nothing is printed.
    """

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        found = [*words]
        # Whatever is wrong is said by the command itself, not while a word is typed.
        with suppress(Exception):
            found += _read(ctx, kinds)
        fitting = (name for name in found if name.startswith(incomplete))
        return [name for name in dict.fromkeys(fitting) if _PLAIN.fullmatch(name)]

    return complete


def _read(ctx: click.Context, kinds: tuple[Name, ...]) -> list[str]:
    from streamlab.home.folder import Home
    from streamlab.registry.registry import Registry

    home = Home(Path(ctx.params["home"]))
    url = ctx.params.get("registry")
    if url is None:
        home.require_registry()
    with Registry.open(
        url or home.registry_url, clock=time.time, read_only=True, on_damage=lambda _: None
    ) as registry:
        return [name for kind in kinds for name in _names(registry, kind)]


def _names(registry: Registry, kind: Name) -> Iterator[str]:
    if kind == "run":
        yield from registry.runs.names()
    elif kind == "task":
        yield from registry.arrivals.task_names()
    elif kind == "provider":
        yield from registry.arrivals.provider_names()
    else:
        yield from (tag.name for tag in registry.tags.list() if f"{tag.kind} tag" == kind)
