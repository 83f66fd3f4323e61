"""Live progress of a run on standard error: which arrival, stage and step, and how long yet.

With `stages` a line stays for every stage that ended, also where no bar is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from streamlab.methods.api import Progress as Step
    from streamlab.stream.schedule import Arrival


class LiveProgress:
    """A bar that lives on a terminal; into a pipe it shows nothing."""

    def __init__(self, console: Console, *, stages: bool = False) -> None:
        """Draw on `console`, once the block that uses this is entered."""
        self._console = console
        self._stages = stages
        self._stage = ""
        self._line = ""  # of the stage at work
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
            self.settle()
            self._current = arrival.identity
            self._n_seen += 1
            self._bar.reset(self._row, total=step.n_steps)
        elif step.stage != self._stage:
            self.settle()
        facts = f"{step.stage} {step.step}/{step.n_steps}, loss {step.loss:.2f}"
        if step.density is not None:
            facts += f", {step.density:.1%} open"
        place = f"{self._n_seen}/{self._n_arrivals}"
        self._stage, self._line = step.stage, f"  {place} {arrival.task}: {facts}"
        self._bar.update(
            self._row,
            description=f"{place} {arrival.task[:14]}",
            completed=step.step,
            facts=facts,
        )

    def settle(self) -> None:
        """Leave a line of the stage that ended, where lines are wanted."""
        if self._stages and self._line:
            self._console.print(self._line, markup=False)
        self._line = ""
