"""How a scenario's arrivals are carried out."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ByteSize, Field, PositiveFloat, PositiveInt

from streamlab.config import GrownSettings


class ExecutionSettings(GrownSettings):
    """Where arrivals are learnt, for how long, and how often each is tried.

    `processes`: each provider in a process of its own, with the base and its own rows.
    """

    later: ClassVar[frozenset[str]] = frozenset({"memory"})

    executor: Literal["serial", "processes"] = "serial"
    timeout_seconds: PositiveFloat | None = None  # of one attempt, loading included
    attempts: PositiveInt = 1  # in one run; `--resume` tries again
    # What a provider's process may allocate for itself (Linux); libraries and buffers included.
    memory: Annotated[ByteSize, Field(gt=0, lt=1 << 63)] | None = None
