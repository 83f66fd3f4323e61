"""The details of an arrival: what its provider reports, and what the lab notes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from streamlab.errors import RegistryError

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

_STRICT: ConfigDict = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ReportedDetails:
    """What a provider reports of a training; the lab verifies none of it. All of it is JSON."""

    __pydantic_config__ = _STRICT

    training: Mapping[str, Any] = field(default_factory=dict)  # densities, lengths of stages
    quantization: Mapping[str, Any] | None = None  # of a diff: the value type and its agreement
    adapter_config: Mapping[str, Any] | None = None  # of an adapter: PEFT's settings


@dataclass(frozen=True, kw_only=True)
class OutputProbe:
    """What a stored diff did to the base, so that it can be seen to do the same again."""

    __pydantic_config__ = _STRICT

    n_changed: int  # backbone weights
    n_examples: int
    sha256: str  # of the outputs on these examples, comparable on the same machine only
    machine: str  # digest of the machine and its libraries


@dataclass(frozen=True, kw_only=True)
class ArrivalDetails:
    """What is recorded of an arrival beside its columns; only the lab sets what is not reported."""

    __pydantic_config__ = _STRICT

    reported: ReportedDetails = field(default_factory=ReportedDetails)
    method: Mapping[str, Any] = field(default_factory=dict)  # its settings
    n_validation_examples: int | None = None
    n_truncated: int | None = None  # training examples that were cut to `max_length`
    sources_skipped: tuple[str, ...] = ()
    service_us: int | None = None  # virtual time of all attempts, noted with the last of several
    content: str | None = None  # digest by which copies of an admitted diff are recognised
    signature: str | None = None  # of the provider, in hex
    probe: OutputProbe | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without the fields that are None."""
        tree = _given(self) | {"reported": _given(self.reported)}
        return tree if self.probe is None else tree | {"probe": _given(self.probe)}

    @classmethod
    def from_json(cls, tree: Any) -> Self:
        """Read what `to_json` returned. Raises RegistryError for anything else."""
        from pydantic import ValidationError

        try:
            return _adapter().validate_python(tree)  # type: ignore[return-value]
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "details"
            raise RegistryError(
                f"The details of an arrival cannot be read: `{place}`: {first['msg']}. "
                "The registry was changed by another program."
            ) from error


def _given(record: object) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if value is not None}


@cache
def _adapter() -> TypeAdapter[ArrivalDetails]:
    from pydantic import TypeAdapter  # here, since a short command has no arrival to read

    return TypeAdapter(ArrivalDetails)
