"""Service in virtual time: the number of slots, and the duration of each training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from streamlab.config import Settings
from streamlab.errors import UsageError
from streamlab.units import SECOND_US


class QueueSettings(Settings):
    """The slots that tasks wait for, and how long a task occupies one in virtual time."""

    slots: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Tasks that train at a time."""
    service: Literal["real", "history", "fixed"] = "real"
    """The duration of a training in virtual time: its own (`real`), sampled from earlier trainings
    (`history`), or `fixed`."""
    seconds: float | None = Field(default=None, ge=0, le=1e9)
    """The duration under `service: fixed`."""

    @model_validator(mode="after")
    def _seconds_go_with_fixed(self) -> Self:
        if (self.service == "fixed") != (self.seconds is not None):
            raise ValueError("`service: fixed` and `seconds` go together; give both or neither")
        return self


def service_us(
    settings: QueueSettings, *, trained_seconds: float, history: Sequence[float], seed: int
) -> int:
    """Return the duration of a task's training in microseconds of virtual time.

    `trained_seconds`: of the task itself; `history`: earlier durations, in a fixed order; `seed`:
    of the task's sample. Raises UsageError without a history to sample from.
    """
    seconds = trained_seconds
    if settings.service == "fixed" and settings.seconds is not None:
        seconds = settings.seconds
    elif settings.service == "history":
        if not history:
            raise no_history()
        seconds = history[int(np.random.default_rng(seed).integers(len(history)))]
    return round(SECOND_US * seconds)


def no_history() -> UsageError:
    """Return the error for a registry without earlier trainings."""
    return UsageError(
        "`queue.service: history` samples from earlier trainings, and the registry has none. Run "
        "the scenario once with `service: real`, or give `service: fixed` with `seconds`."
    )
