"""Plug-ins, found by name: methods, mask selectors, metrics, data sources and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal, get_args

from streamlab.errors import UsageError
from streamlab.units import did_you_mean

Group = Literal[
    "streamlab.methods",
    "streamlab.masks",
    "streamlab.metrics",
    "streamlab.sources",
    "streamlab.arrival_processes",
    "streamlab.trackers",
]

_NOUN: Final[Mapping[Group, str]] = MappingProxyType(
    dict(
        zip(
            get_args(Group),
            ("method", "mask selector", "metric", "data source", "arrival process", "tracker"),
            strict=True,
        )
    )
)


def load(group: Group, name: str, builtin: Mapping[str, str]) -> object:
    """Return the object that `name` stands for in one group of plug-ins.

    A name is looked up in `builtin` (name -> `module:Name`, imported when asked for), then among
    the entry points of the group; a name with a colon is an import path `package.module:Name`.
    Raises UsageError where the name is unknown or ambiguous, or the import fails.
    """
    if name in builtin:
        return _imported(builtin[name])
    entries = [entry for entry in entry_points(group=group) if entry.name == name]
    if len({entry.value for entry in entries}) > 1:
        raise UsageError(
            f"The {_NOUN[group]} {name!r} is ambiguous: it is provided by "
            f"{' and '.join(sorted(map(_package, entries)))}. Uninstall all but one of them, or "
            "give the import path `package.module:Name`."
        )
    if entries:
        return _explained(group, name, entries[0].value, f"the package `{_package(entries[0])}`")
    if ":" in name:
        return _explained(group, name, name, f"`{name.partition(':')[0]}`")
    known = names(group, builtin)
    hint = did_you_mean(name, known)
    raise UsageError(
        f"Unknown {_NOUN[group]} {name!r}. {hint}{' ' if hint else ''}Known: {', '.join(known)}; "
        "or give an import path `package.module:Name`."
    )


def names(group: Group, builtin: Iterable[str]) -> tuple[str, ...]:
    """List the names of one group: those built in, then those of entry points, each sorted."""
    found = {entry.name for entry in entry_points(group=group)}
    return (*sorted(builtin), *sorted(found - set(builtin)))


def _explained(group: Group, name: str, path: str, provider: str) -> object:
    try:
        return _imported(path)
    # Foreign code runs here, and may raise anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise UsageError(
            f"The {_NOUN[group]} {name!r} cannot be loaded from {provider}: importing {path!r} "
            f"failed with {type(error).__name__}: {reason.rstrip('.')}. Correct the name, or "
            "install what it needs."
        ) from error


def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    return attrgetter(attribute)(import_module(module))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module
