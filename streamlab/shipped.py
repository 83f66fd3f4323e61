"""Scenarios and studies that come with streamlab: found by name, wherever it is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from streamlab.errors import ConfigError, UsageError
from streamlab.units import did_you_mean, nearest

Kind = Literal["scenario", "study"]
# Beside this file. In a checkout they are links to the folders of these names at its root.
_FOLDERS: Final[dict[Kind, str]] = {"scenario": "scenarios", "study": "studies"}
KINDS: Final = tuple(_FOLDERS)


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Return the files of a kind by name, in alphabetical order."""
    folder = Path(__file__).with_name(_FOLDERS[kind])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def shipped_file(name: str) -> Path:
    """Return the file of a scenario or study. Raises UsageError where none has the name."""
    shipped = {known: path for kind in KINDS for known, path in shipped_files(kind).items()}
    if name not in shipped:
        raise UsageError(f"No scenario {name!r} comes with streamlab. {nearest(name, shipped)}")
    return shipped[name]


def find_file(given: Path, kind: Kind) -> Path:
    """Return the file at a path, or else the one that comes with streamlab by this name.

    Raises ConfigError where there is neither, and a shipped name is near.
    """
    name, shipped = str(given), shipped_files(kind)
    if os.path.lexists(given):
        return given
    if name in shipped:
        return shipped[name]
    if given.stem in shipped:
        hint = f"`{given.stem}` comes with streamlab: give this name alone."
    else:
        hint = _files_near(given) if given.suffix else did_you_mean(name, shipped)
    if hint:
        raise ConfigError(name, [f"does not exist. {hint}"])
    return given  # reading it says why it cannot be read


def _files_near(given: Path) -> str:
    """Ask whether another YAML file of the same folder was meant; empty without a near one."""
    try:
        names = [path.name for path in given.parent.iterdir() if path.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    below = "" if given.parent == Path() else f"{given.parent}/"
    return did_you_mean(given.name, sorted(names), below=below)


def first_line(path: Path) -> str:
    """Return the question that a file begins with, in its first comment."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
