"""Live progress of a run on standard error: which arrival, stage and step, and how long yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from streamlab.methods.contract import Progress as Step
    from streamlab.stream.arrivals import Arrival


class LiveProgress:
    """A bar that lives on a terminal; into a pipe it shows nothing."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`, once the block that uses this is entered."""
        self._n_arrivals = 0
        self._n_seen = 0
        self._current: tuple[object, ...] | None = None
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._row = self._bar.add_task("loading", total=None, facts="base and data")

    def __enter__(self) -> LiveProgress:
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    def expect(self, n_arrivals: int) -> None:
        """Say how many arrivals are still to come."""
        self._n_arrivals = n_arrivals

    def show(self, arrival: Arrival, step: Step) -> None:
        """Show one training step."""
        if arrival.identity != self._current:
            self._current = arrival.identity
            self._n_seen += 1
            self._bar.reset(self._row, total=step.n_steps)
        facts = f"{step.stage} {step.step}/{step.n_steps}, loss {step.loss:.2f}"
        if step.density is not None:
            facts += f", {step.density:.1%} open"
        self._bar.update(
            self._row,
            description=f"{self._n_seen}/{self._n_arrivals} {arrival.task[:14]}",
            completed=step.step,
            facts=facts,
        )
