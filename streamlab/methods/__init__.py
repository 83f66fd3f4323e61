"""Methods: diff pruning and its baselines, found by name behind one contract (`api.Method`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, SerializationInfo, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from streamlab.config import Settings, Tree, secret_problem, validate_nested
from streamlab.errors import UsageError
from streamlab.methods.api import Method
from streamlab.methods.baselines import BitFit, FullFinetuning, HeadOnly, NonAdaptive
from streamlab.methods.diff_pruning import DiffPruning
from streamlab.methods.lora import Lora
from streamlab.plugins import load

_CLASSES = (BitFit, DiffPruning, FullFinetuning, HeadOnly, Lora, NonAdaptive)
BUILTIN: Final[Mapping[str, str]] = MappingProxyType(
    {c.model_fields["name"].default: f"{c.__module__}:{c.__name__}" for c in _CLASSES}
)
_CONTRACT: Final = ("name", "artifact", "expected_entries", "train")


def _settings(given: Any) -> Settings:
    """Validate a method's settings with the class that their `name` stands for."""
    if isinstance(given, Settings):
        return given
    tree = {"name": given} if isinstance(given, str) else given
    if not isinstance(tree, Mapping):
        raise secret_problem("must be a method's name, or a mapping of its settings with a `name`")
    if "name" not in tree:
        raise _invalid_name("is required and missing")
    return validate_nested(_method_class(str(tree["name"])), tree)


def _method_class(name: str) -> type[Settings]:
    try:
        found = load("streamlab.methods", name, BUILTIN)
    except UsageError as error:
        raise _invalid_name(str(error)) from error
    if not isinstance(found, type) or not issubclass(found, Settings):
        raise _invalid_name(f"`{name}` is not a method: it must be a subclass of `Settings`")
    missing = [a for a in _CONTRACT if a not in found.model_fields and not hasattr(found, a)]
    if missing:
        lacks = ", ".join(f"`{attribute}`" for attribute in missing)
        raise _invalid_name(f"`{name}` is not a method: the class lacks {lacks}")
    return found


def _invalid_name(message: str) -> ValidationError:
    problem: PydanticCustomError = secret_problem(message)
    details = InitErrorDetails(type=problem, loc=("name",), input=None)
    return ValidationError.from_exception_data("method", [details])


def _dump(method: Method, info: SerializationInfo) -> Tree:
    return method.model_dump(mode=info.mode)


# A method in a scenario, validated and dumped by the class that its `name` stands for: a built-in
# name, an entry point of the group `streamlab.methods`, or an import path `package.module:Name`.
MethodSettings = Annotated[Method, PlainValidator(_settings), PlainSerializer(_dump)]

__all__ = [
    "BUILTIN",
    "BitFit",
    "DiffPruning",
    "FullFinetuning",
    "HeadOnly",
    "Lora",
    "MethodSettings",
    "NonAdaptive",
]
