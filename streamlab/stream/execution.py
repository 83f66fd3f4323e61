"""How a scenario's arrivals are carried out."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from streamlab.config import Settings


class ExecutionSettings(Settings):
    """Where arrivals are learnt, for how long, and how often each is tried.

    `processes`: each provider in a process of its own, with the base and its own rows.
    """

    executor: Literal["serial", "processes"] = "serial"
    timeout_seconds: PositiveFloat | None = None  # of one attempt, loading included
    attempts: PositiveInt = 1  # in one run; `--resume` tries again
