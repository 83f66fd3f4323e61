"""Labels: from what a source calls a label to a class index or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from streamlab.errors import DataError

UNPUBLISHED: Final = -1  # in GLUE, and in `datasets` for a class without a number
IS_UNPUBLISHED: Final = (
    "is -1, which means `not published` in GLUE; use a split whose labels are published"
)
_WHOLE: Final = re.compile(r"-?[0-9]+")
_WHOLE_AS_FLOAT: Final = re.compile(r"(-?[0-9]+)\.0*")
_FRACTION: Final = re.compile(r"[+-]?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class NumberReader:
    """Read labels of regression: finite numbers, or text that spells one."""

    renaming: ClassVar[str] = ""

    def read(self, value: Any) -> float:
        """Return the label as a float. Raises ValueError saying what is wrong with it."""
        if is_missing(value):
            raise ValueError("is missing; give every example a number")
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"is {value!r}; regression needs a finite number for every example")
        return number


class ClassReader:
    """Read labels of classification: a class's name, or its index where no name is a number.

    `labels` are the task's class names in its own order. `named` are those of the source, by
    the source's index: the same names in another order are matched by name, and names that are
    all different rename the classes in order; `renaming` then says so.
    """

    def __init__(self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str) -> None:
        self.labels = labels
        self.renaming = ""
        places = _places(labels, named or labels, origin)
        self._index = {name: place for place, name in enumerate(labels)}
        if named is not None and not set(named) & set(labels):
            self._index |= dict(zip(named, places, strict=True))
            pairs = ", ".join(f"{a!r} as {b!r}" for a, b in zip(named, labels, strict=True))
            self.renaming = f"its labels read as the task's: {pairs}"
        # If a name were a number, one label could mean two classes.
        self._by_number = not any(_WHOLE.fullmatch(name) for name in self._index)
        if self._by_number:
            self._index |= {str(number): place for number, place in enumerate(places)}

    def read(self, value: Any) -> int:
        """Return the index of the class. Raises ValueError saying what is wrong with the label."""
        name = _class_name(value)
        index = self._index.get(name)
        if index is not None:
            return index
        _refuse_unpublished(name)
        known = ", ".join(
            f"{name!r} ({place})" if self._by_number else repr(name)
            for place, name in enumerate(self.labels)
        )
        problem = "out of range" if _WHOLE.fullmatch(name) else "unknown"
        raise ValueError(
            f"is {value!r}, which is {problem}; known: {known}. Correct it, or name the classes "
            "in `labels`"
        )


class FlagsReader:
    """Read the labels of a multi-label task: a list of classes, which may be empty.

    A label is a flag for every class, 1 where it applies.
    """

    def __init__(self, classes: ClassReader) -> None:
        self._classes = classes
        self.renaming = classes.renaming

    def read(self, value: Any) -> tuple[int, ...]:
        """Return the flags. Raises ValueError saying what is wrong with the list."""
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"is {value!r:.60}; give a list of classes, which may be empty")
        found = [self._classes.read(one) for one in value]
        if len(set(found)) < len(found):
            raise ValueError(f"is {value!r:.60}, which names a class twice")
        return tuple(int(place in found) for place in range(len(self._classes.labels)))


class TagReader:
    """Read the labels of a token classification: a list of tags, one for every word."""

    def __init__(self, classes: ClassReader) -> None:
        self._classes = classes
        self.renaming = classes.renaming

    def read(self, value: Any) -> tuple[int, ...]:
        """Return the index of every tag. Raises ValueError saying what is wrong with the list."""
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"is {value!r:.60}; give a list with a tag for every word")
        return tuple(self._classes.read(one) for one in value)


class CompletionReader:
    """Read the completions of language modelling: texts as they are."""

    renaming: ClassVar[str] = ""

    def read(self, value: Any) -> str:
        """Return the completion. Raises ValueError saying what is wrong with it."""
        return checked_text(value)


LabelReader = NumberReader | ClassReader | FlagsReader | TagReader | CompletionReader


def checked_text(value: Any) -> str:
    """Return a value that is a text. Raises ValueError saying what is wrong with it."""
    if value is None:
        raise ValueError("is missing; give every example a text")
    if not isinstance(value, str):
        raise ValueError(
            f"must be a string, got {type(value).__name__} ({value!r:.60}); write it in quotes"
        )
    if not value.strip():
        raise ValueError("is empty; remove the example, or give it a text")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("holds half a surrogate pair, which is not a character; save it as UTF-8")
    return value


def infer_labels(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the class names among raw labels: numbers in their order, or names sorted.

    Raises ValueError saying what is wrong with a label that cannot name a class.
    """
    names = set()
    for value in values:
        name = _class_name(value)
        _refuse_unpublished(name)
        if _FRACTION.fullmatch(name):
            raise ValueError(f"is {value!r}, not a class; for numbers set `kind: regression`")
        names.add(name)
    if all(_WHOLE.fullmatch(name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _class_name(value: Any) -> str:
    """Write a raw label as text, alike for JSON, CSV and Parquet: 1, 1.0 and "1" are `1`."""
    if is_missing(value):
        raise ValueError("is missing; give every example a label")
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"is a {type(value).__name__}; give a name or a number")
    text = str(value)
    whole = _WHOLE_AS_FLOAT.fullmatch(text)
    return whole[1] if whole else text


def is_missing(value: Any) -> bool:
    """Tell whether there is no label."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _refuse_unpublished(name: str) -> None:
    if name == str(UNPUBLISHED):
        raise ValueError(IS_UNPUBLISHED)


def _places(labels: tuple[str, ...], named: tuple[str, ...], origin: str) -> tuple[int, ...]:
    """Return the task's index for each of the source's."""
    if set(named) == set(labels):
        return tuple(labels.index(name) for name in named)
    if len(named) == len(labels) and not set(named) & set(labels):
        return tuple(range(len(labels)))
    raise DataError(
        f"{origin} calls its classes {', '.join(map(repr, named))}, and the task "
        f"{', '.join(map(repr, labels))}. Give the same names in `labels`, in any order, or as "
        "many new ones to rename them."
    )
