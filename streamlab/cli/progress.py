"""What moves on a terminal while a command works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.text import Text

from streamlab.cli.output import for_terminal
from streamlab.units import printable

if TYPE_CHECKING:
    from streamlab.methods.api import Progress as Step
    from streamlab.stream.schedule import Arrival

_BAR: Final = 10  # columns
_SPINNER: Final = 2
# What the lab does next, by the point that an arrival has passed.
_NEXT: Final = {"answered": "checking", "admitted": "storing", "stored": "scoring"}


def say(notes: Console, text: str) -> None:
    """Print a note above whatever moves; names in it cannot control the terminal."""
    notes.print(for_terminal(printable(text, keep="\n")), markup=False)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show on a terminal that a command works, for as long as the block prints nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(f"{text} ..."):
        yield


@dataclass
class _Bar:
    """The bar of one arrival and the line of its current stage."""

    row: TaskID
    place: str
    stage: str = ""
    line: str = ""


class _Line(ProgressColumn):
    """One line of progress, of as many parts as fit beside one another."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """Return the line of a task."""
        stage, loss, density = (*task.fields["facts"], "", "", "")[:3]
        left = task.time_remaining if task.total else None
        clock = "" if left is None else f"{int(left) // 60:02d}:{int(left) % 60:02d}"
        room = self._console.width - _SPINNER - cell_len(task.description)
        wanted = {"stage": stage, "clock": clock, "bar": self._bar(task)}
        wanted |= {"loss": loss, "density": density}
        shown = {}
        for name, part in wanted.items():  # the first are worth most
            if part and cell_len(part) + 2 <= room:
                shown[name] = part
                room -= cell_len(part) + 2
        facts = ", ".join(shown[name] for name in ("stage", "loss", "density") if name in shown)
        ends = [shown.get("bar", ""), facts, shown.get("clock", "")]
        line = Text(task.description, style="bold", no_wrap=True, overflow="crop")
        return line.append("".join(f" {end}" for end in ends if end), style="not bold")

    def _bar(self, task: Task) -> str:
        if not task.total:
            return ""
        full, empty = ("#", "-") if self._console.options.ascii_only else ("━", "╌")
        done = min(int(_BAR * task.completed / task.total), _BAR)
        return full * done + empty * (_BAR - done)


class LiveProgress(Progress):
    """A progress bar per arrival on a terminal; into a pipe only the lines of `stages`."""

    n_arrivals = 0  # that remain

    def __init__(self, console: Console, *, stages: bool = False) -> None:
        """Draw on `console` within a `with` block; `stages`: print a line per stage."""
        super().__init__(
            SpinnerColumn("line" if console.options.ascii_only else "dots"),
            _Line(console),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._stages = stages
        self._n_seen = 0
        self._bars: dict[tuple[object, ...], _Bar] = {}
        self._waiting = self.add_task("", total=None, facts=(), visible=False)

    def wait(self, text: str, *facts: str) -> None:
        """Show what is waited for, until something else moves."""
        self.update(self._waiting, description=text, facts=facts, visible=True)

    def show(self, arrival: Arrival, step: Step) -> None:
        """Show one training step."""
        bar = self._bars.get(arrival.identity)
        if bar is None:
            self._n_seen += 1
            place = f"{self._n_seen}/{self.n_arrivals}"
            row = self.add_task(f"{place} {arrival.task}", total=step.n_steps, facts=())
            bar = self._bars[arrival.identity] = _Bar(row, place)
            self.update(self._waiting, visible=False)
        elif step.stage != bar.stage:
            self._leave_line(bar)
        # The words of a provider's process, which may hold anything.
        facts = [f"{printable(step.stage)} {step.step}/{step.n_steps}", f"loss {step.loss:.2f}"]
        if step.density is not None:
            facts.append(f"{step.density:.1%} open")
        bar.stage, bar.line = step.stage, f"  {bar.place} {arrival.task}: {', '.join(facts)}"
        if step.step >= step.n_steps:
            facts = ["rounding the values"]
        self.update(bar.row, completed=step.step, facts=facts)

    def reach(self, point: str) -> None:
        """Show what the lab does with an arrival once it has passed a point of `lab.POINTS`."""
        if point in _NEXT:
            self.wait(_NEXT[point])
        else:
            self.update(self._waiting, visible=False)

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
