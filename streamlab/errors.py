"""Every error this package raises on purpose.

StreamlabError                exit 1: a finding or a failure
├── UsageError                exit 2: what was asked for cannot be done as asked
│   ├── ConfigError           a scenario or a setting is not valid
│   ├── SourceError           a model, package, folder or hub name leads nowhere
│   └── DataError             rows are missing, malformed or cannot be learnt from
├── TrainingError             a training run broke down (NaN loss, no steps)
├── ProviderError             a provider's process died, hung, or answered nonsense
├── DiffError                 a diff cannot be made or used
│   ├── DiffFormatError       a diff file breaks a named rule of the format
│   ├── BaseMismatchError     a diff belongs to another base
│   └── RefusedError           a submission breaks a named rule of admission
├── StoreError                an artifact cannot be written, found or trusted
└── RegistryError             the registry cannot be opened, read or written
    └── NotInRegistryError    no record, or more than one, answers to a name
"""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.units import counted


class StreamlabError(Exception):
    """Base of all errors; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(StreamlabError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """A scenario or a setting is not valid; `problems` lists every one found."""

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.origin = origin
        self.problems = tuple(problems)
        count = counted(len(self.problems), "problem")
        super().__init__(f"{origin} has {count}:\n" + "\n".join(f"  {p}" for p in self.problems))


class SourceError(UsageError):
    """A model, package, folder or hub name leads nowhere."""


class DataError(UsageError):
    """Rows are missing, malformed or cannot be learnt from."""


class TrainingError(StreamlabError):
    """A training run broke down."""


class ProviderError(StreamlabError):
    """A provider's process died, hung, or answered nonsense."""


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


class NotInRegistryError(RegistryError):
    """No record, or more than one, answers to a name."""

    exit_code = 2
