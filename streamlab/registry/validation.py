"""What each field of a record may hold: its type, range and length, in one place.

Rows are checked whenever they are read, those of an import before anything is written, so that
no row can break what shows it. The depth and size of JSON are bounded by `backends.read_json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from streamlab.errors import RegistryError
from streamlab.registry.backends import Unreadable

Record = TypeVar("Record")
MAX_TENSORS = 2**20
MAX_VALUE = 1e15  # of a score, seconds, ...: sums of them stay finite
MAX_REASON = 10_000  # characters of what a person reads of a failure

_INT32, _INT64, _LARGE = 2**31 - 1, 2**63 - 1, 2**50  # sums of `_LARGE` stay within 64 bits
_YEAR_10000 = 253_402_300_800  # where dates end
_SHOWN = 60


@dataclass(frozen=True)
class Rule:
    """What a value must be, and whether it is."""

    text: str
    holds: Callable[[Any], bool]


def _whole(least: int, most: int) -> Rule:
    text = f"a whole number from {least:,} to {most:,}"
    return Rule(text, lambda value: type(value) is int and least <= value <= most)


def _number(least: float, most: float) -> Rule:
    def holds(value: Any) -> bool:
        return type(value) in (int, float) and least <= value <= most  # false for NaN

    return Rule(f"a finite number from {least:g} to {most:g}", holds)


def _text(most: int, *, least: int = 0) -> Rule:
    def holds(value: Any) -> bool:
        # Not every database can hold a NUL.
        return type(value) is str and least <= len(value) <= most and "\0" not in value

    return Rule(f"a text of {least} to {most:,} characters, none of them NUL", holds)


def _like(pattern: str, text: str) -> Rule:
    found = re.compile(pattern).fullmatch
    return Rule(text, lambda value: type(value) is str and found(value) is not None)


def _is_layout(value: Any) -> bool:
    """Tell whether a layout names each tensor once, with a shape that can be counted."""
    if not isinstance(value, tuple) or not 0 < len(value) <= MAX_TENSORS:
        return False
    if not all(_NAME.holds(name) and _is_shape(shape) for name, shape in value):
        return False
    return len({name for name, _ in value}) == len(value)


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MOST_DIMENSIONS
        and all(map(_COUNT.holds, shape))
        and math.prod(shape) <= _LARGE
    )


def _is_scenario(tree: Any) -> bool:
    """Tell whether a scenario has, in the right types, what `RecordedScenario` reads of it."""
    match tree:
        case {"seeds": [_, *_] as seeds, "defaults": {"method": {"name": str(), **method}}}:
            density, admission = method.get("target_density"), tree.get("admission") or {}
            sections = [tree.get(name) or {} for name in ("base", "storage", "tasks", "providers")]
        case _:
            return False
    return (
        all(map(_SEED.holds, seeds))
        and (density is None or _SHARE.holds(density))
        and isinstance(method.get("label", ""), str)
        and all(isinstance(section, Mapping) for section in (admission, *sections))
        and all(isinstance(each, Mapping) for section in sections[2:] for each in section.values())
        and all(_is_columns(task.get("columns")) for task in sections[2].values())
        and _VALUE.holds(admission.get("probe_tolerance") or 0)
    )


def _is_columns(columns: Any) -> bool:
    return columns is None or (
        isinstance(columns, Mapping) and all(v is None or _NAME.holds(v) for v in columns.values())
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _NAME.holds(key) and _TEXT.holds(text) for key, text in value.items()
    )


def _all(rule: Rule) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(rule.holds, value))


_NAME = _text(1000, least=1)
_TEXT = _text(10_000)
_LONG_TEXT = _text(100_000)
_SHARE, _VALUE = _number(0, 1), _number(-MAX_VALUE, MAX_VALUE)
_SEED, _DIGEST = _whole(0, _INT64), _like("[0-9a-f]{64}", "64 hexadecimal digits")
_COUNT, _PLACE, _TIME = _whole(0, _LARGE), _whole(0, _INT32), _number(0, _YEAR_10000 - 1)
_MOST_DIMENSIONS = 16


# By the name of the field, which means the same in every record; others by their type.
_BY_NAME: Mapping[str, Rule] = {
    **dict.fromkeys(("digest", "fingerprint", "base_fingerprint", "scenario_digest"), _DIGEST),
    **dict.fromkeys(("provider", "task", "method", "run", "scenario_name"), _NAME),
    **dict.fromkeys(("metric", "split", "examples_fingerprint", "value_type"), _text(200)),
    **dict.fromkeys(("reason", "message"), _LONG_TEXT),
    **dict.fromkeys(("sequence", "after_sequence", "attempt", "n_expected"), _PLACE),
    **dict.fromkeys(("started_at", "finished_at", "heartbeat_at"), _TIME),
    **dict.fromkeys(("added_at", "removed_at", "at"), _TIME),
    **dict.fromkeys(("value", "majority", "declared_score"), _VALUE),
    "name": _text(1000),  # empty in a total of everything
    "seed": _SEED,
    "layers": _whole(1, 10_000),
    "n_tensors": _whole(1, MAX_TENSORS),
    "layout": Rule("a list of tensors with their shapes", _is_layout),
    "initialised": Rule("a list of names", _all(_NAME)),
    "scenario": Rule("a scenario", _is_scenario),
    "environment": Rule("names with texts", _is_texts),
    "tensor_counts": Rule("counts", _all(_whole(0, 2**32 - 1))),
}
_BY_TYPE: Mapping[Any, Rule] = {
    int: _COUNT,
    float: _number(0, MAX_VALUE),
    str: _TEXT,
    bool: Rule("true or false", lambda value: type(value) is bool),
}


def check_new(record: object) -> None:
    """Check a record that is about to be written. Raises RegistryError."""
    try:
        check(record)
    except RegistryError as error:
        kind = type(record).__name__.removeprefix("New").lower()
        raise RegistryError(f"The {kind} cannot be recorded: {error}.") from error


def check(record: Any) -> None:
    """Raise RegistryError naming the first field of a record that holds what it may not."""
    for name, rule, optional in _rules(record.__class__):
        value = getattr(record, name)
        if not (rule.holds(value) or (optional and value is None)):
            raise _wrong(name, value, rule.text)


def build(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return the record of a row's values. Raises RegistryError as `check` does."""
    for name, value in values.items():
        if isinstance(value, Unreadable):
            raise RegistryError(f"`{name}` is {value.why}")
    record = kind(**values)
    check(record)
    return record


def shorten(reason: str) -> str:
    """Return a reason that can be recorded: not too long, and without NUL."""
    reason = without_nul(reason)
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 3]}..."


def without_nul(text: str) -> str:
    """Return a text in which every NUL is written out."""
    return text.replace("\0", "\\0")


def _wrong(name: str, value: Any, text: str) -> RegistryError:
    shown = ascii(value[:_SHOWN] if isinstance(value, str | bytes) else value)
    if not isinstance(value, str | bytes | int | float | NoneType):
        shown = f"a {type(value).__name__}"
    return RegistryError(f"`{name}` is {shown[: 2 * _SHOWN]}, not {text}")


@cache
def _rules(kind: type[Any]) -> tuple[tuple[str, Rule, bool], ...]:
    """Return the name and the rule of every field that has one, and whether it may be None."""
    found = []
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        union = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        own = [part for part in union if part is not NoneType]
        rule = _BY_NAME.get(field.name) or _BY_TYPE.get(own[0])
        if get_origin(own[0]) is Literal:
            rule = _one_of(own)
        if rule is not None:
            found.append((field.name, rule, len(own) < len(union)))
    return tuple(found)


def _one_of(literals: Iterable[Any]) -> Rule:
    words = [word for part in literals for word in (get_args(part) or (part,))]
    return Rule(f"one of {', '.join(map(str, words))}", lambda value: value in words)
