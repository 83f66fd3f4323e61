"""What is wrong with settings, in plain words: which one, what was given, and what it must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from streamlab.units import nearest

HIDDEN: Final = "hidden"  # the type of a problem whose input is not shown
OWN: Final = "settings"  # the type of one that a validator of ours states
_MOST: Final = 1000  # problems of one file
_NOTHING: Final = object()
_KINDS: Final[Mapping[str, str]] = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "byte_size": "a number of bytes, as 64MB or 1.5GiB",
    "byte_size_unit": "a number of bytes, as 64MB or 1.5GiB",
    "dict_type": "a mapping of settings",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list in brackets",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "is_instance_of": "a mapping of settings",
    "list_type": "a list in brackets",
    "mapping_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "none_required": "left out",
    "path_type": "a path",
    "set_type": "a list in brackets",
    "string_type": "text",
    "tuple_type": "a list in brackets",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_ITEMS: Final[Mapping[str, tuple[str, str, str]]] = {
    "too_short": ("at least", "min_length", "entry"),
    "too_long": ("at most", "max_length", "entry"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}


def describe(
    cls: type[BaseModel], errors: Sequence[Mapping[str, Any]], tree: Mapping[str, Any]
) -> list[str]:
    """Return a sentence on each setting that is wrong, from what pydantic found in `tree`."""
    return [
        f"{'.'.join(map(str, place)) or 'the file'}: {text}{'' if text.endswith('?') else '.'}"
        for place, text in described(cls, errors, tree)
    ]


def described(
    cls: type[BaseModel], errors: Sequence[Mapping[str, Any]], tree: Mapping[str, Any]
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the place of each setting that is wrong, and what is wrong, without a full stop."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for error in errors[:_MOST]:
        found.setdefault(_place(error, tree), []).append(error)
    for place, together in found.items():
        # A list whose items are all wrong is also too short, and no other thing that it may be.
        is_outer = any(other[: len(place)] == place and other != place for other in found)
        if not is_outer or any(e["type"] != "too_short" and not _is_kind(e) for e in together):
            yield from ((place, text.removesuffix(".")) for text in _messages(cls, together))


def message(error: Mapping[str, Any], cls: type[BaseModel] | None = None) -> str:
    """Return what is wrong with one setting (of `cls`), without its place and a full stop."""
    return next(_messages(cls, [error])).removesuffix(".")


def _messages(cls: type[BaseModel] | None, errors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong at one place: one message for all that a value there may be."""
    wanted = [_wanted(error) for error in errors if _is_kind(error)]
    if wanted:
        yield f"must be {' or '.join(dict.fromkeys(wanted))}{_given(errors[0])}"
    for error in errors:
        if not _is_kind(error):
            yield _other(cls, error)


def _place(error: Mapping[str, Any], tree: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return where a problem is, without the names that pydantic has for what may stand there."""
    if error["type"] in (HIDDEN, OWN):
        return tuple(error["loc"])
    place, node = [], tree
    for depth, part in enumerate(error["loc"]):
        below = _below(node, part)
        is_last = depth == len(error["loc"]) - 1
        if below is not _NOTHING:
            place.append(part)
            node = below
        elif is_last and error["type"] in ("missing", "extra_forbidden"):
            place.append(part)
    return tuple(place)


def _below(node: Any, part: Any) -> Any:
    if isinstance(node, Mapping):
        return node.get(part, _NOTHING)
    if isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node):
        return node[part]
    return _NOTHING


def _is_kind(error: Mapping[str, Any]) -> bool:
    return error["type"] in (*_KINDS, *_BOUNDS, "literal_error")


def _wanted(error: Mapping[str, Any]) -> str:
    """Return what a value must be."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        return f"{words} {bound:,}" if isinstance(bound, int) else f"{words} {bound:g}"
    if kind == "string_type" and isinstance(error.get("input"), (int, float)):
        return "text, which here needs quotes"
    return _KINDS[kind]


def _other(cls: type[BaseModel] | None, error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        if cls is None:
            return "unknown key"
        known = sorted(_sibling_names(cls, error["loc"][:-1]))
        return f"unknown key. {nearest(str(error['loc'][-1]), known, limit=1)}"
    if kind == "missing":
        return "is required and missing"
    if kind in _ITEMS:
        words, key, noun = _ITEMS[kind]
        number = context[key]
        plural = {"entry": "entries"}.get(noun, f"{noun}s")
        return f"must have {words} {number} {noun if number == 1 else plural}{_given(error)}"
    if kind == "string_pattern_mismatch":
        return f"must match `{context['pattern']}`{_given(error)}"
    if kind.startswith("union_tag"):
        return f"must be one of {context.get('expected_tags', 'the known kinds')}"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = (text[:1].lower() + text[1:]).replace("input should be", "must be").rstrip(".")
    return text if kind == HIDDEN else f"{text}{_given(error, quoted=text)}"


def _given(error: Mapping[str, Any], *, quoted: str = "") -> str:
    """Return what was given, where it is short enough to show and `quoted` does not quote it."""
    given = error.get("input")
    if not isinstance(given, (str, int, float, bool, type(None))):
        return ""
    if isinstance(given, str) and repr(given) in quoted:
        return ""
    return f", got {given!r}"


def _sibling_names(cls: type[BaseModel], place: Sequence[Any]) -> set[str]:
    """Return the keys known at `place`, following nested settings, lists, mappings and unions."""
    candidates: set[type[BaseModel]] = {cls}
    for part in place:
        following: set[type[BaseModel]] = set()
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                following |= set(_models_in(field.annotation))
        # Any other part is an index, a mapping's key or a union's tag.
        candidates = following or candidates
    return {name for candidate in candidates for name in candidate.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
