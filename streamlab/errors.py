"""The errors that this package raises.

StreamlabError                exit 1: a finding or a failure
├── UsageError                exit 2: a request cannot be carried out as given
│   ├── ConfigError           a scenario or a setting is not valid
│   ├── SourceError           a model, package, folder or hub name does not exist
│   └── DataError             examples are missing, malformed or cannot be learnt from
│       └── DataProblemsError     several of these at once
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
        super().__init__("\n".join([f"{origin} has {count}:", *_listed(self.problems)]))


def _listed(problems: Sequence[str], n_others: int = 0) -> list[str]:
    """Return a line for each of the first problems, and one that counts the others."""
    shown = problems[:_MOST_SHOWN]
    cut = (p if len(p) <= _LONGEST else f"{p[:_LONGEST]}..." for p in shown)
    lines = ["  " + p.replace("\n", "\n    ") for p in cut]
    n_more = len(problems) - len(shown) + n_others
    if n_more > 0:
        lines.append(f"  and {counted(n_more, 'more problem', 'more problems')}.")
    return lines


class SourceError(UsageError):
    """A model, package, folder or hub name does not exist."""


class DataError(UsageError):
    """Examples are missing, malformed or cannot be learnt from."""


class DataProblemsError(DataError):
    """Problems of data, as many as were found at once, each a sentence with its file and line.

    `n_others`: how many more there are beside `problems`. `advice`: what may be done about all.
    """

    def __init__(self, problems: Sequence[str], *, n_others: int = 0, advice: str = "") -> None:
        self.problems = tuple(problems)
        self.n_others = n_others
        self.advice = advice
        n_all = len(self.problems) + n_others
        if n_all == 1:
            text = f"{self.problems[0]} {advice}".rstrip()
        else:
            count = counted(n_all, "problem")
            lines = [f"The data have {count}:", *_listed(self.problems, n_others), advice]
            text = "\n".join(filter(None, lines))
        super().__init__(text)


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
