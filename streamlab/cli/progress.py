"""What moves on a terminal while trainings run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamlab.units import printable

if TYPE_CHECKING:
    from streamlab.methods.api import Progress as Step
    from streamlab.stream.schedule import Arrival


def say(notes: Console, text: str) -> None:
    """Print a note above whatever moves; names in it cannot control the terminal."""
    notes.print(printable(text, keep="\n"), markup=False)


@dataclass
class _Bar:
    """The bar of one arrival and the line of its current stage."""

    row: TaskID
    place: str
    stage: str = ""
    line: str = ""


class LiveProgress(Progress):
    """A progress bar per arrival on a terminal; into a pipe only the lines of `stages`."""

    n_arrivals = 0  # that remain

    def __init__(self, console: Console, *, stages: bool = False) -> None:
        """Draw on `console` within a `with` block; `stages`: print a line per stage."""
        super().__init__(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._stages = stages
        self._n_seen = 0
        self._bars: dict[tuple[object, ...], _Bar] = {}
        self._loading = self.add_task("loading", total=None, facts="base and data")

    def show(self, arrival: Arrival, step: Step) -> None:
        """Show one training step."""
        bar = self._bars.get(arrival.identity)
        if bar is None:
            self._n_seen += 1
            place = f"{self._n_seen}/{self.n_arrivals}"
            description = f"{place} {arrival.task[:14]}"
            row = self.add_task(description, total=step.n_steps, facts="")
            bar = self._bars[arrival.identity] = _Bar(row, place)
            self.update(self._loading, visible=False)
        elif step.stage != bar.stage:
            self._leave_line(bar)
        # The words of a provider's process, which may hold anything.
        facts = f"{printable(step.stage)} {step.step}/{step.n_steps}, loss {step.loss:.2f}"
        if step.density is not None:
            facts += f", {step.density:.1%} open"
        bar.stage, bar.line = step.stage, f"  {bar.place} {arrival.task}: {facts}"
        self.update(bar.row, completed=step.step, facts=facts)

    def settle(self, arrival: Arrival) -> None:
        """Remove the bar of an arrival whose outcome is known."""
        bar = self._bars.pop(arrival.identity, None)
        if bar is not None:
            self._leave_line(bar)
            self.remove_task(bar.row)

    def clear(self) -> None:
        """Remove every bar."""
        for bar in self._bars.values():
            self.remove_task(bar.row)
        self._bars.clear()

    def _leave_line(self, bar: _Bar) -> None:
        if self._stages and bar.line:
            say(self.console, bar.line)
        bar.line = ""
