"""Single settings replaced by their paths: `--set a.b=value`.

The path is followed through the settings classes, so that it may lead into what the file leaves
out, and into what it writes short, such as a method by its name alone.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from streamlab.config import NamedSettings, Tree, read_value
from streamlab.errors import ConfigError


@dataclass(frozen=True)
class Overridden:
    """A tree with values replaced, and a sentence on each part that this left without use."""

    tree: Tree
    notes: tuple[str, ...]


def override(
    tree: Tree, assignments: Sequence[str], root: type[BaseModel] | None = None
) -> Overridden:
    """Apply every `a.b=value` to a copy of `tree`; values are read as YAML.

    A number in the path indexes a list, or is its length. `root`: the settings class of the tree.
    Where a plug-in is replaced by another one by its name, the settings that this one lacks are
    left out, unless they are assigned too. Raises ConfigError with every malformed assignment.
    """
    copy: Tree = json.loads(json.dumps(tree, default=str))
    problems: list[str] = []
    pairs = []
    for assignment in assignments:
        try:
            pairs.append((assignment, *split(assignment)))
        except ValueError as error:
            problems.append(f"--set {assignment!r}: {str(error).rstrip('.')}.")
    paths = [".".join(path) for _, path, _ in pairs]
    notes: list[str] = []
    for assignment, path, value in pairs:
        try:
            dropped = _assign(copy, path, value, root, keep=paths)
        except ValueError as error:
            problems.append(f"--set {assignment!r}: {str(error).rstrip('.')}.")
            continue
        if dropped:
            names = ", ".join(f"`{name}`" for name in dropped)
            verb = "is" if len(dropped) == 1 else "are"
            notes.append(f"`{'.'.join(path[:-1])}`: {names} {verb} not used, as {value} has none.")
    if problems:
        raise ConfigError("the command line", problems)
    return Overridden(copy, tuple(notes))


def split(assignment: str) -> tuple[list[str], Any]:
    """Return the path and the value of `a.b=value`. Raises ValueError where it is malformed."""
    path, equals, value = assignment.partition("=")
    if not equals or not all(path.split(".")):
        raise ValueError("write it as `a.b=value`.")
    return path.split("."), read_value(value)


def assign(tree: Tree, path: str, value: Any, root: type[BaseModel] | None = None) -> None:
    """Set `a.b` of a tree in place, as `override` does. Raises ValueError."""
    _assign(tree, path.split("."), value, root, keep=())


@dataclass(frozen=True)
class _Place:
    """What may stand at a place, by its type; empty where that is unknown."""

    choices: tuple[tuple[Any, tuple[Any, ...]], ...] = ()  # types with their annotations
    default: Any = None

    @classmethod
    def of(cls, annotation: Any, metadata: Sequence[Any] = (), default: Any = None) -> _Place:
        return cls(tuple(_choices(annotation, tuple(metadata))), default)

    @property
    def named(self) -> NamedSettings | None:
        """Return what finds the class of a plug-in here by its name."""
        marks = (mark for _, metadata in self.choices for mark in metadata)
        return next((mark for mark in marks if isinstance(mark, NamedSettings)), None)

    @property
    def is_list(self) -> bool:
        """Tell whether a list may stand here."""
        return any(get_origin(one) in (tuple, list) for one, _ in self.choices)

    def models(self, node: Any) -> Iterator[type[BaseModel]]:
        """Yield the settings classes of a node here."""
        if self.named is not None:
            name = node.get(self.named.key) if isinstance(node, dict) else node
            found = self.named.find(name) if isinstance(name, str) else None
            if found is not None:
                yield found
            return
        for one, _ in self.choices:
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield one

    def inside(self, node: Any, name: str) -> _Place:
        """Return the place of a key or an index in a node here."""
        for model in self.models(node):
            found = model.model_fields.get(name)
            if found is not None:
                default = found.get_default(call_default_factory=True, validated_data={})
                return _Place.of(found.annotation, found.metadata, default)
        for one, _ in self.choices:
            arguments = get_args(one)
            if get_origin(one) in (tuple, list) and arguments:
                return _Place.of(arguments[0])
            if isinstance(get_origin(one), type) and issubclass(get_origin(one), Mapping):
                return _Place.of(arguments[1])
        return _Place()

    def filled(self, node: Any, *, index: bool) -> Any:
        """Return a node as a list or a mapping that a path can go on in.

        `index`: whether it goes on with a number.
        """
        if isinstance(node, (dict, list)):
            return node
        if node is None:
            node = self._written(self.default)
        if isinstance(node, str):
            node = self._spelled_out(node)
        if index and self.is_list and not isinstance(node, list):
            return [] if node is None or node == {} else [node]
        return node if isinstance(node, (dict, list)) else {}

    def _spelled_out(self, name: str) -> Any:
        """Return what a name alone stands for; the name where it is nothing but that."""
        if self.named is not None:
            return {self.named.key: name}
        for model in self.models(name):
            try:
                return self._written(model.model_validate(name))
            except ValidationError:
                continue
        return name

    def _written(self, default: Any) -> Any:
        """Return a default as a file would have it."""
        if isinstance(default, BaseModel):
            tree = default.model_dump(mode="json", exclude_unset=True)
            key = None if self.named is None else self.named.key
            return tree if key is None else {key: getattr(default, key), **tree}
        if isinstance(default, (tuple, list)):
            return [self._written(one) for one in default]
        return default if isinstance(default, (str, int, float, dict)) else None


def _choices(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _choices(inner, (*metadata, *more))
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _choices(one, metadata)
    else:
        yield annotation, metadata


def _assign(
    tree: Any, path: Sequence[str], value: Any, root: type[BaseModel] | None, *, keep: Sequence[str]
) -> list[str]:
    """Set a value in place; return the keys that were left out as a plug-in has them no more.

    `keep`: paths that are assigned too.
    """
    place = _Place() if root is None else _Place.of(root)
    for depth, name in enumerate(path):
        if isinstance(tree, list):
            if not name.isdigit() or int(name) > len(tree):
                raise ValueError(f"`{name}` is not an index of a list of {len(tree)}.")
            key: Any = int(name)
            if key == len(tree):
                tree.append(None)
        else:
            key = name
        if depth == len(path) - 1:
            tree[key] = value
            above = ".".join(path[:-1])
            return _forget(tree, place, name, [k for k in tree if _is_kept(f"{above}.{k}", keep)])
        below = place.inside(tree, name)
        node = tree[key] if isinstance(tree, list) else tree.get(key)
        tree[key] = below.filled(node, index=path[depth + 1].isdigit())
        tree, place = tree[key], below
    raise AssertionError(path)  # a path has a name


def _is_kept(path: str, keep: Sequence[str]) -> bool:
    return any(other == path or other.startswith(f"{path}.") for other in keep)


def _forget(tree: Any, place: _Place, name: str, kept: Sequence[str]) -> list[str]:
    """Leave out what a plug-in that was named just now has no setting for."""
    if place.named is None or name != place.named.key or not isinstance(tree, dict):
        return []
    known = {key for model in place.models(tree) for key in model.model_fields}
    gone = [key for key in tree if known and key not in known and key not in kept]
    for key in gone:
        del tree[key]
    return gone
