"""YAML in, validated and frozen settings out, with every problem reported at once.

This module knows no setting by name: each settings class lives beside what it sets.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from streamlab.errors import ConfigError
from streamlab.hashing import canonical_json as canonical_json
from streamlab.units import nearest

Tree = dict[str, Any]


class Settings(BaseModel):
    """Base of every settings class: frozen, keyword-only, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GrownSettings(Settings):
    """Settings with keys that came `later`: in what is dumped only where they are not the default.

    So what was recorded before they came keeps its digest.
    """

    later: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> Tree:
        tree: Tree = dump(self)
        for name in self.later:
            field = type(self).model_fields[name]
            if getattr(self, name) == field.get_default(call_default_factory=True):
                tree.pop(name, None)
        return tree


_HIDDEN = "hidden"  # the type of a problem whose input is not shown
AnySettings = TypeVar("AnySettings", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Plain scalars as in YAML 1.2: `no` and dates stay words, `1e-5` is a number; no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library keeps its table on the class
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in {"bool", "float", "timestamp"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key given twice, which YAML would settle in silence."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or a mapping cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Tree:
    """Read one YAML mapping.

    Raises ConfigError where the file is missing, is not UTF-8, is not YAML or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            str(path), [f"cannot be read: {error.strerror}. Check the path."]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), ["is not UTF-8 text. Save it as UTF-8."]) from error
    return parse_yaml(text, origin=str(path))


def parse_yaml(text: str, *, origin: str) -> Tree:
    """Parse one YAML mapping; `origin` names it in errors. Raises ConfigError."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    # The library lets a value that is not what its tag says fall through as a ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            origin, [f"is not valid YAML: {' '.join(str(error).split())}."]
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            origin, [f"must hold a mapping of settings, holds {type(tree).__name__}."]
        )
    return tree


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """Return a copy of `tree` with every `a.b=value` applied; values are read as YAML.

    A number in the path indexes a list. Raises ConfigError with every malformed assignment.
    """
    copy: Tree = json.loads(json.dumps(tree, default=str))
    problems = []
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not all(path.split(".")):
            problems.append(f"--set {assignment!r}: write it as `a.b=value`.")
            continue
        try:
            _assign(copy, path.split("."), yaml.load(value, Loader=_Loader))  # noqa: S506
        except (yaml.YAMLError, ValueError) as error:
            problems.append(f"--set {assignment!r}: {' '.join(str(error).split())}")
    if problems:
        raise ConfigError("the command line", problems)
    return copy


def _assign(tree: Any, path: Sequence[str], value: Any) -> None:
    for depth, name in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(tree, list):
            if not name.isdigit() or int(name) >= len(tree):
                raise ValueError(f"`{name}` is no place in a list of {len(tree)}.")
            index: Any = int(name)
        elif isinstance(tree, dict):
            index = name
            if not last and not isinstance(tree.get(name), (dict, list)):
                tree[name] = {}
        else:
            raise ValueError(f"`{'.'.join(path[:depth])}` holds no settings.")
        if last:
            tree[index] = value
        tree = tree[index]


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def expand_variables(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replace `${NAME}` and `${NAME:-default}` in one string.

    An empty variable counts as unset where a default is given. Raises ValueError for an unset
    variable with no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            raise ValueError(
                f"the environment variable `{name}` is not set; set it, or give a default as "
                f"`${{{name}:-...}}`"
            )
        return environment[name]

    return _VARIABLE.sub(value, text)


def validate(cls: type[AnySettings], tree: Mapping[str, Any], *, origin: str) -> AnySettings:
    """Build settings from a mapping; raises ConfigError naming every problem with its path."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(origin, [_describe(cls, e) for e in error.errors()]) from error


def validate_nested(cls: type[AnySettings], tree: Mapping[str, Any]) -> AnySettings:
    """Build settings whose class a validator has chosen; for use in that validator.

    Raises ValidationError with messages in full, as the outer class cannot know the keys of `cls`.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=secret_problem(_message(cls, e)), loc=e["loc"], input=None)
            for e in error.errors()
        ]
        raise ValidationError.from_exception_data(cls.__name__, details) from error


def problem(message: str, given: object, *place: str | int) -> InitErrorDetails:
    """Return one problem of settings, for the ValidationError that a validator raises."""
    # The message goes in as a value: as a template, braces in it would have a meaning.
    kind = PydanticCustomError("settings", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=place, input=given)


def secret_problem(message: str) -> PydanticCustomError:
    """Return a problem for a validator to raise whose input is not to be shown: it may be a key."""
    return PydanticCustomError(_HIDDEN, "{message}", {"message": message})


def _describe(cls: type[BaseModel], error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    message = _message(cls, error)
    return f"{place}: {message}" if message.endswith("?") else f"{place}: {message.rstrip('.')}."


def _message(cls: type[BaseModel], error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        known = sorted(_sibling_names(cls, error["loc"][:-1]))
        return f"unknown key. {nearest(str(error['loc'][-1]), known, limit=1)}"
    if error["type"] == "missing":
        return "is required and missing"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    given = error.get("input")
    simple = isinstance(given, (str, int, float, bool, type(None)))
    shown = f", got {given!r}" if simple and error["type"] != _HIDDEN else ""
    return f"{message.rstrip('.')}{shown}"


def _sibling_names(cls: type[BaseModel], place: Sequence[Any]) -> set[str]:
    """Return the keys known at `place`, following nested settings, lists, mappings and unions."""
    candidates: set[type[BaseModel]] = {cls}
    for part in place:
        following: set[type[BaseModel]] = set()
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                following |= set(_models_in(field.annotation))
        # A part that names no field is an index, a mapping's key or a union's tag.
        candidates = following or candidates
    return {name for candidate in candidates for name in candidate.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def digest(tree: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `tree`, in hex."""
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()
