"""Live progress of a run on standard error: which arrival, stage and step, and how long yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from streamlab.methods.contract import Progress as Step
    from streamlab.stream.arrivals import Arrival


class LiveProgress:
    """A bar that lives on a terminal; into a pipe or with `quiet` it shows nothing."""

    def __init__(
        self, console: Console, n_arrivals: int, *, quiet: bool, clock: Callable[[], float]
    ) -> None:
        """`n_arrivals` counts those still to come."""
        self._n_arrivals = n_arrivals
        self._n_seen = 0
        self._current: tuple[object, ...] | None = None
        self._clock = clock
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._row = self._bar.add_task("", total=None, facts="")

    def __enter__(self) -> LiveProgress:
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    def show(self, arrival: Arrival, step: Step) -> None:
        """Show one training step."""
        if arrival.identity != self._current:
            self._current = arrival.identity
            self._n_seen += 1
            self._bar.reset(self._row, total=step.n_steps)
        facts = f"{step.stage} {step.step}/{step.n_steps} loss {step.loss:.3f}"
        if step.density is not None:
            facts += f" density {step.density:.2%}"
        self._bar.update(
            self._row,
            description=f"{self._n_seen}/{self._n_arrivals} {arrival.task}"[:18],
            completed=step.step,
            facts=facts,
        )


def elapsed(seconds: float) -> str:
    """Write seconds as a person would read them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def now() -> float:
    """Return the time the bars are drawn by."""
    return time.monotonic()
