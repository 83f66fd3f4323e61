"""Settings from YAML: validated, frozen, and with every problem reported at once.

This module knows no setting by name: each settings class lives beside what it sets.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    SerializationInfo,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from streamlab.errors import ConfigError, UsageError
from streamlab.files import read_text
from streamlab.hashing import canonical_json as canonical_json
from streamlab.plugins import Group, load
from streamlab.problems import HIDDEN, OWN, describe, described

Tree = dict[str, Any]


class Settings(BaseModel):
    """Base of every settings class: frozen, keyword-only, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


AnySettings = TypeVar("AnySettings", bound=BaseModel)


_MOST_BYTES: Final = 1 << 22  # of a file
_MOST_VALUES: Final = 300_000  # in a file, an alias counting as all that it stands for
_VALUE_CHARACTERS: Final = 100  # more of a text count as more values
_MOST_LEVELS: Final = 64
_TOO_DEEP: Final = f"it is nested in more than {_MOST_LEVELS} levels, or in itself"
_MOST_DIGITS: Final = 100  # of a whole number
_MOST_CHARACTERS: Final = 1 << 16  # of a setting with variables

if TYPE_CHECKING:
    from yaml import SafeLoader as _Parser
else:  # four times as fast, where PyYAML was built with it
    _Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _RefusedError(yaml.composer.ComposerError):
    """What YAML allows and settings do not, said in words of ours."""


class _Composer(yaml.composer.Composer):
    """Compose nodes in Python, which bounds recursion: in C deep nesting ends the process."""

    construct_object: Callable[..., Any]

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key given twice, which the library settles in silence; merges may override."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _RefusedError(
                    None, None, "a list or a mapping cannot be a key", key_node.start_mark
                )
            merge = key_node.tag == _MERGE
            key = key_node.value if merge else self.construct_object(key_node, deep=True)
            if key in seen:
                raise _RefusedError(
                    None, None, f"the key `{key}` is given twice", key_node.start_mark
                )
            seen.add(key)
        return node


class _Loader(_Composer, _Parser):
    """Plain scalars of YAML 1.2's core schema, except that a leading zero makes a word.

    `no`, `on`, dates, `12:30`, `1_000` and `02142` are words; `1e-5` is a number. A key may not be
    given twice. No library does this: ruamel.yaml reads dates as dates, 02142 as 2142 and 1_000 as
    1000, and accepts a list as a key.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - without those of the library, for YAML 1.1

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        yaml.composer.Composer.__init__(self)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve `<<`, keeping one pair per key, so that merges of merges cannot explode."""
        super().flatten_mapping(node)
        node.value = list(
            {(key.tag, key.value): (key, value) for key, value in node.value}.values()
        )


_MERGE: Final = "tag:yaml.org,2002:merge"
_PLAIN_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


def _constructor(name: str, pattern: re.Pattern[str]) -> Callable[[_Loader, Any], Any]:
    """Return a constructor that takes no other spelling, such as `!!float 12:30`."""

    def construct(loader: _Loader, node: Any) -> Any:
        value = loader.construct_scalar(node)
        if name == "merge":
            raise ValueError("`<<` is a key that merges mappings, and no value; write it in quotes")
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r:.60} is no {name} in YAML 1.2")
        if name != "int":
            return getattr(yaml.SafeLoader, f"construct_yaml_{name}")(loader, node)
        if len(value) > _MOST_DIGITS:
            raise ValueError(f"a whole number has {len(value)} digits")
        return int(value, 0)

    return construct


for _name, (_pattern, _firsts) in _PLAIN_SCALARS.items():
    _tag, _compiled = f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(_tag, _compiled, _firsts)
    _Loader.add_constructor(_tag, _constructor(_name, _compiled))


def read_yaml(path: Path) -> Tree:
    """Read one YAML mapping.

    Raises ConfigError where the file is missing, or is not a YAML mapping in UTF-8.
    """
    try:
        text = read_text(path, most_bytes=_MOST_BYTES)
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from error
    return parse_yaml(text, origin=str(path))


def parse_yaml(text: str, *, origin: str) -> Tree:
    """Parse one YAML mapping; `origin` names it in errors. Raises ConfigError."""
    try:
        tree = _load_yaml(text)
    except yaml.YAMLError as error:
        place, problem = _yaml_problem(error, text)
        raise ConfigError(origin, [f"is not valid YAML: {place}{problem}."]) from error
    except ValueError as error:
        raise ConfigError(origin, [f"is not valid YAML: {error}."]) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            origin, [f"must hold a mapping of settings, holds {type(tree).__name__}."]
        )
    return tree


# What the parser says, in words for who wrote the file; the first that fits.
_YAML_PROBLEMS: Final = (
    ("mapping values are not allowed", "a `:` cannot stand here. Put text that holds `: ` in "
     "quotes, and indent the keys of one mapping alike"),
    ("found unexpected end of stream", "a quotation mark is never closed"),
    ("found undefined alias", "`*` stands for something that was marked by `&` before, and nothing "
     "was. Put text that begins with `*` in quotes"),
    ("could not determine a constructor", "`!` has no meaning here. Put text that begins with it "
     "in quotes"),
    ("expected ',' or ']'", "a list in brackets is not closed: `,` or `]` is missing"),
    ("expected ',' or '}'", "a mapping in braces is not closed: `,` or `}` is missing"),
    ("expected node content", "a value is missing, or a bracket is not closed"),
    ("expected '-' indicator", "the items of a list must begin with `-`, each as far to the right"),
    ("expected key", "the keys of one mapping must each begin as far to the right"),
    ("could not find expected ':'", "a key has no `:` after it"),
    ("unknown escape character", "a backslash in double quotes has a meaning of its own. Use "
     "single quotes"),
    ("but found another document", "it holds several documents. Keep one"),
)  # fmt: skip


def _yaml_problem(error: yaml.YAMLError, text: str) -> tuple[str, str]:
    """Return the place of what is wrong in a text, and what is wrong, in plain words."""
    if not isinstance(error, yaml.MarkedYAMLError):
        position = getattr(error, "position", 0)
        return "", f"it holds a control character, at position {position + 1}"
    mark, said = error.problem_mark, str(error.problem)
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    if isinstance(error, _RefusedError):
        return place, said
    found = text[mark.index : mark.index + 1] if mark is not None else ""
    if "cannot start any token" in said:
        if found == "\t":
            return place, "a tab cannot stand before a value or a key. Use blanks"
        return place, f"no value begins with `{found}`. Put it in quotes"
    known = (words for part, words in _YAML_PROBLEMS if part in said)
    otherwise = f"`{found}` is not expected here" if found.strip() else "it ends early"
    return place, next(known, otherwise)


def _load_yaml(text: str) -> Any:
    """Return the values in a text. Raises YAMLError, or ValueError for values of no settings."""
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except (AttributeError, KeyError, TypeError) as error:  # a value is not what its tag says
        raise ValueError("a value does not suit its tag") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if _n_values(tree, {}, 0) > _MOST_VALUES:
        raise ValueError(
            f"it holds more than {_MOST_VALUES:,} values, with each alias counted as what it "
            "stands for"
        )
    return tree


def _n_values(tree: Any, known: dict[tuple[int, int], int], level: int) -> int:
    """Count values; `known` has the count of each list and mapping at each level."""
    if not isinstance(tree, (dict, list)):
        if not isinstance(tree, (str, int, float, type(None))):
            raise ValueError(f"a {type(tree).__name__} is not a setting")
        return 1 + len(tree) // _VALUE_CHARACTERS if isinstance(tree, str) else 1
    if level == _MOST_LEVELS:
        raise ValueError(_TOO_DEEP)
    seen = id(tree), level
    if seen not in known:
        parts = [*tree, *tree.values()] if isinstance(tree, dict) else tree
        known[seen] = 1 + sum(_n_values(part, known, level + 1) for part in parts)
    return known[seen]


def read_value(text: str) -> Any:
    """Return the value that a text has in YAML. Raises ValueError where it is not YAML."""
    try:
        return _load_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(_yaml_problem(error, text)[1]) from error


_VARIABLE = re.compile(
    r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:[^}$]|\$(?!\{))*))?\}"
)
_UNCLOSED = re.compile(r"\$\{[A-Za-z_]")


def expand_variables(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replace `${NAME}` and `${NAME:-default}` in one string.

    An empty variable counts as unset where a default is given. Raises ValueError for an unset
    variable with no default, one within another, and one that does not end.
    """
    if _UNCLOSED.search(_VARIABLE.sub(" ", text)):
        raise ValueError(
            "write a variable as `${NAME}` or `${NAME:-default}`, without another one in it"
        )

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

    expanded = _VARIABLE.sub(value, text)
    if len(expanded) > max(_MOST_CHARACTERS, len(text)):
        raise ValueError(f"is longer than {_MOST_CHARACTERS:,} characters with its variables")
    return expanded


def unset_variables(text: str, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of the variables in a text that are unset or empty, each once."""
    names = dict.fromkeys(found["name"] for found in _VARIABLE.finditer(text))
    return tuple(name for name in names if not environment.get(name))


def validate(cls: type[AnySettings], tree: Mapping[str, Any], *, origin: str) -> AnySettings:
    """Build settings from a mapping; raises ConfigError naming every problem with its path."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(origin, describe(cls, error.errors(), tree)) from error


def validate_nested(cls: type[AnySettings], tree: Mapping[str, Any]) -> AnySettings:
    """Build settings whose class a validator has chosen; for use in that validator.

    Raises ValidationError with messages in full, as the outer class cannot know the keys of `cls`.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=secret_problem(text), loc=place, input=None)
            for place, text in described(cls, error.errors(), tree)
        ]
        raise ValidationError.from_exception_data(cls.__name__, details) from error


@dataclass(frozen=True, kw_only=True)
class NamedSettings:
    """Settings whose class is a plug-in: the subclass of `base` that the name in `key` stands for.

    It annotates a field's type, `Annotated[base, NamedSettings(...)]`; a bare name stands for
    settings without other keys.
    """

    group: Group
    key: str
    builtin: Mapping[str, str]
    base: type[BaseModel]

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return how pydantic builds and dumps such a field."""
        dumping = core_schema.plain_serializer_function_ser_schema(self._dumped, info_arg=True)
        return core_schema.no_info_plain_validator_function(
            self._validated,
            json_schema_input_schema=core_schema.any_schema(),
            serialization=dumping,
        )

    def find(self, name: str) -> type[BaseModel] | None:
        """Return the settings class that a name stands for, None where it is not known."""
        try:
            return self._class(name)
        except ValidationError:
            return None

    def _validated(self, given: Any) -> BaseModel:
        """Build the settings from a name or a mapping. Raises as validators do."""
        if isinstance(given, self.base):
            return given
        tree = {self.key: given} if isinstance(given, str) else given
        if not isinstance(tree, Mapping):
            raise secret_problem(f"must be a name or a mapping with the key `{self.key}`")
        if self.key not in tree:
            raise self._invalid_name("is required and missing")
        return validate_nested(self._class(str(tree[self.key])), tree)

    def _dumped(self, settings: BaseModel, info: SerializationInfo) -> Tree:
        """Return the settings as a mapping, by their own class."""
        return settings.model_dump(mode=info.mode)

    def _class(self, name: str) -> type[BaseModel]:
        try:
            found = load(self.group, name, self.builtin)
        except UsageError as error:
            raise self._invalid_name(str(error)) from error
        if not isinstance(found, type) or not issubclass(found, self.base):
            base = f"{self.base.__module__}.{self.base.__name__}"
            raise self._invalid_name(f"`{name}` must be a subclass of `{base}`")
        missing = {a for a in found.__class_vars__ if not hasattr(found, a)}
        if missing := missing | found.__abstractmethods__:
            lacks = ", ".join(f"`{attribute}`" for attribute in sorted(missing))
            raise self._invalid_name(f"the class `{name}` lacks {lacks}")
        return found

    def _invalid_name(self, message: str) -> ValidationError:
        details = InitErrorDetails(type=secret_problem(message), loc=(self.key,), input=None)
        return ValidationError.from_exception_data(self.base.__name__, [details])


def problem(message: str, given: object, *place: str | int) -> InitErrorDetails:
    """Return one problem of settings, for the ValidationError that a validator raises."""
    # The message is a value: in a template, braces would have a meaning.
    kind = PydanticCustomError(OWN, "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=place, input=given)


def secret_problem(message: str) -> PydanticCustomError:
    """Return a problem for a validator to raise whose input is not shown: it may be secret."""
    return PydanticCustomError(HIDDEN, "{message}", {"message": message})


def digest(tree: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `tree`, in hex."""
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()


def scenario_digest(resolved: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Return the digest of a resolved scenario with its tasks in the order of the stream.

    How a run is executed and followed is left out, since it may differ when the run is resumed.
    So is a setting that is null: a setting that is new, and null where it is not used, leaves the
    digests of what was run before as they are.
    """
    execution = {"attempts": resolved["execution"]["attempts"]}
    what = {
        name: {key: value for key, value in task.items() if key != "resources"}
        for name, task in resolved["tasks"].items()
    }
    identity = {key: value for key, value in resolved.items() if key != "tracking"}
    return digest(
        [_without_nulls({**identity, "execution": execution, "tasks": what}), list(tasks)]
    )


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_nulls(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list | tuple):
        return [_without_nulls(value) for value in tree]
    return tree
