"""Settings of a provider: its tasks, its arrivals, its behaviour and its keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, field_validator
from pydantic_core import InitErrorDetails

from streamlab.arrivals.arrival_processes import ArrivalProcessSettings, AsListed, Trace, TraceEvent
from streamlab.arrivals.trace import read_trace
from streamlab.config import Settings, Tree, problem, secret_problem
from streamlab.errors import UsageError
from streamlab.files import read_text
from streamlab.stream.providers.behaviours import BehaviourSettings
from streamlab.stream.submission import PRIVATE, SIMULATED, Key, checked_private_key, simulated_keys

MOST_ARRIVALS: Final = 1_000_000  # of a run
_KEY_BYTES: Final = 1 << 16

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class ProviderSettings(Settings):
    """One provider: its tasks, when they arrive, its simulated behaviour and its key."""

    tasks: tuple[Name, ...] = Field(min_length=1)
    """The tasks that it submits, in order. Every task belongs to one provider."""
    arrivals: ArrivalProcessSettings = AsListed()
    """When its tasks arrive: a built-in process, or a plug-in. Default: all at the start, in the
    order of the scenario."""
    n_arrivals: Annotated[int, Field(ge=1, le=MOST_ARRIVALS)] | None = None
    """With more arrivals than tasks, tasks arrive again as new versions. Default: each task
    once."""
    behaviour: BehaviourSettings = BehaviourSettings()
    """Simulated misbehaviour, by probability; a name alone stands for always."""
    key: Key | None = None
    """The public key, as `streamlab keygen` prints it; or `simulated`, for a pair derived from seed
    and name."""
    private_key_file: Path | None = None
    """The file of the private key. A relative path starts at the scenario's folder."""

    @field_validator("private_key_file", mode="before")
    @classmethod
    def _is_no_key(cls, given: Any) -> Any:
        if isinstance(given, str) and given.startswith(PRIVATE):
            raise secret_problem("is the path of a file, and this is the key itself")
        return given

    def public_key(self, seed: int, name: str) -> str | None:
        """Return the provider's public key, None where it has none."""
        return simulated_keys(seed, name).public if self.key == SIMULATED else self.key

    def find_private_key(self, seed: int, name: str, folder: Path) -> str | None:
        """Return the key that the provider signs with; a relative path starts from `folder`.

        Raises UsageError for a file without one.
        """
        if self.key == SIMULATED:
            return simulated_keys(seed, name).private
        if self.private_key_file is None:
            return None
        file = folder / self.private_key_file
        try:
            private = checked_private_key(read_text(file, most_bytes=_KEY_BYTES).strip())
            _check_mode(file)
            return private
        except ValueError as error:
            raise UsageError(
                f"The private key of the provider `{name}` cannot be read from {file}: it "
                f"{str(error).rstrip('.')}. Make one with `streamlab keygen --out FILE`."
            ) from error

    @property
    def n_arriving(self) -> int:
        """Return the number of its arrivals, without those of a trace that was not read."""
        if isinstance(self.arrivals, Trace):
            return len(self.arrivals.events or ())
        return self.n_arrivals or len(self.tasks)

    @property
    def arriving(self) -> list[str]:
        """Return the task of every arrival, in order. Raises ValueError for a trace not read."""
        if isinstance(self.arrivals, Trace):
            return [event.task for event in self.arrivals.in_order]
        return list(itertools.islice(itertools.cycle(self.tasks), self.n_arriving))


def _check_mode(key: Path) -> None:
    """Raise UsageError where other users may read or write a private key."""
    mode = key.stat().st_mode & 0o777
    if mode & 0o077:
        raise UsageError(
            f"The private key {key} can be used by other users (mode {mode:o}). Run "
            f"`chmod 600 {key}`, and make a new key if it may have been copied."
        )


def arrival_problems(name: str, provider: ProviderSettings) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with the arrivals of the provider `name`."""
    place, n_arrivals = ("providers", name), provider.n_arrivals
    if not isinstance(provider.arrivals, Trace):
        left_out = provider.tasks[n_arrivals:] if n_arrivals is not None else ()
        if left_out:
            message = (
                f"is too few for {', '.join(left_out)} ever to arrive; raise it to "
                f"{len(provider.tasks)} or more, or take them out of `tasks`"
            )
            yield problem(message, n_arrivals, *place, "n_arrivals")
        return
    if n_arrivals is not None:
        yield problem("follows from the trace; leave it out", n_arrivals, *place, "n_arrivals")
    if provider.arrivals.events is not None:
        yield from _in_trace(provider, provider.arrivals.events, place)


def _in_trace(
    provider: ProviderSettings, events: tuple[TraceEvent, ...], place: tuple[str, ...]
) -> Iterator[InitErrorDetails]:
    known, arriving = ", ".join(provider.tasks), {event.task for event in events}
    for number, event in enumerate(events):
        if event.task not in provider.tasks:
            message = f"is not a task of the provider ({known})"
            yield problem(message, event.task, *place, "arrivals", "events", number, "task")
    for number, task in enumerate(provider.tasks):
        if task not in arriving:
            message = "never arrives by the trace; add it there, or take it out here"
            yield problem(message, task, *place, "tasks", number)


def read_traces(providers: Mapping[str, ProviderSettings], folder: Path) -> dict[str, Tree]:
    """Read the files of traces: for each provider that has one, its `arrivals` with the events.

    Relative paths start from `folder`. Raises ConfigError naming every bad line of a file.
    """
    files = {
        name: provider.arrivals.file
        for name, provider in providers.items()
        if isinstance(provider.arrivals, Trace) and provider.arrivals.file is not None
    }
    read = {}
    for name, file in files.items():
        known = {other: providers[other].tasks for other in files if files[other] == file}
        lines = read_trace(folder / file, known)
        events = [{"day": line.day, "task": line.task} for line in lines if line.provider == name]
        read[name] = {"process": "trace", "events": events}
    return read
