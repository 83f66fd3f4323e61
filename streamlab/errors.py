"""The errors that this package raises.

StreamlabError                exit 1: a finding or a failure
├── UsageError                exit 2: a request cannot be carried out as given
│   ├── ConfigError           a scenario or a setting is not valid
│   ├── SourceError           a model, package, folder or hub name does not exist
│   └── DataError             examples are missing, malformed or cannot be learnt from
├── TrainingError             a training run broke down (NaN loss, no steps)
│   └── OutOfMemoryError      it found no memory, and may find some alone
├── ProviderError             a provider's process died, hung, or returned invalid data
├── DiffError                 a diff cannot be made or used
│   ├── DiffFormatError       a diff file breaks a named rule of the format
│   ├── BaseMismatchError     a diff belongs to another base
│   └── RefusedError           a submission breaks a named rule of admission
├── StoreError                an artifact cannot be written, found or trusted
└── RegistryError             the registry cannot be opened, read or written
    ├── RunInProgressError    another process works on the run
    └── NotInRegistryError    a name fits no record, or several
        └── AmbiguousReferenceError    it fits several
"""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.units import counted

_MOST_SHOWN = 30  # problems of one file
_LONGEST = 1000  # characters of one problem


class StreamlabError(Exception):
    """Base of all errors; `exit_code` is that of the command line."""

    exit_code = 1


class UsageError(StreamlabError):
    """A request cannot be carried out as given."""

    exit_code = 2


class ConfigError(UsageError):
    """A scenario or a setting is not valid; `problems` lists every one found."""

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.origin = origin
        self.problems = tuple(problems)
        count = counted(len(self.problems), "problem")
        lines = [f"  {p if len(p) <= _LONGEST else p[:_LONGEST] + '...'}" for p in self.problems]
        n_more = len(lines) - _MOST_SHOWN
        if n_more > 0:
            lines[_MOST_SHOWN:] = [f"  and {counted(n_more, 'more problem', 'more problems')}."]
        super().__init__("\n".join([f"{origin} has {count}:", *lines]))


class SourceError(UsageError):
    """A model, package, folder or hub name does not exist."""


class DataError(UsageError):
    """Examples are missing, malformed or cannot be learnt from."""


class TrainingError(StreamlabError):
    """A training run broke down."""


class OutOfMemoryError(TrainingError):
    """A training found no memory; where nothing else runs, it may."""


class ProviderError(StreamlabError):
    """A provider's process died, hung, or returned invalid data."""


class DiffError(StreamlabError):
    """A diff cannot be made or used."""


class DiffFormatError(DiffError):
    """A diff file breaks a rule of the format; `rule` names it."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(f"The diff file breaks the rule `{rule}`: {message}")


class BaseMismatchError(DiffError):
    """A diff belongs to another base."""


class RefusedError(DiffError):
    """A submission breaks a rule of admission; `rule` names it."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(f"The submission breaks the rule `{rule}`: {message}")


class StoreError(StreamlabError):
    """An artifact cannot be written, found or trusted."""


class RegistryError(StreamlabError):
    """The registry cannot be opened, read or written."""


class RunInProgressError(RegistryError):
    """Another process works on the run."""


class NotInRegistryError(RegistryError):
    """A name fits no record, or several."""

    exit_code = 2


class AmbiguousReferenceError(NotInRegistryError):
    """A name fits several records."""
