"""Progress of a run called from Python: a bar on a terminal or in a notebook."""

from __future__ import annotations

import sys
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streamlab.units import printable

with warnings.catch_warnings():
    # Without ipywidgets a notebook gets the bar of a terminal, which needs no warning.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm

if TYPE_CHECKING:
    from streamlab.methods.api import Progress
    from streamlab.registry.records import RunRecord
    from streamlab.stream.event_loop import Identity
    from streamlab.stream.lab import Outcome
    from streamlab.stream.run_context import RunContext
    from streamlab.stream.schedule import Arrival

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class RunProgress:
    """A bar over the arrivals of a run, in which one in training counts by its steps."""

    def __init__(self, *, shown: bool | None = None) -> None:
        """`shown`: default, on a terminal and in a notebook."""
        shown = in_notebook() or sys.stderr.isatty() if shown is None else shown
        self._bar: Any = tqdm(
            desc="loading base and data", total=1, bar_format=_FORMAT, disable=not shown
        )
        self._n_settled = 0
        self._shares: dict[Identity, float] = {}  # of those in training

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def start(self, run: RunRecord, _context: RunContext, n_arrivals: int) -> None:
        """Begin with the arrivals of a run, of which so many remain."""
        self._bar.reset(total=n_arrivals)
        self._bar.set_description_str(run.name)

    def show(self, arrival: Arrival, step: Progress) -> None:
        """Show one training step."""
        facts = f"{arrival.task}: {step.stage} {step.step}/{step.n_steps}, loss {step.loss:.2f}"
        self._bar.set_postfix_str(printable(facts), refresh=False)
        self._shares[arrival.identity] = step.step / step.n_steps
        self._advance()

    def settle(self, outcome: Outcome) -> None:
        """Count an arrival whose outcome is known as complete; each attempt has one."""
        if self._shares.pop(outcome.arrival.identity, None) is not None:
            self._n_settled += 1
        self._advance()

    def _advance(self) -> None:
        reached = min(self._bar.total, self._n_settled + sum(self._shares.values()))
        self._bar.update(reached - self._bar.n)


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
