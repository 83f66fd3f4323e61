"""The contract of data sources: what one is asked for, and the records that it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamlab.config import expand_variables
from streamlab.errors import DataProblemsError, SourceError
from streamlab.tasks.labels import IS_UNPUBLISHED, UNPUBLISHED
from streamlab.tasks.types.contract import TaskKind

if TYPE_CHECKING:
    from streamlab.tasks.settings import DataSettings, TaskSettings
    from streamlab.tasks.sources.hub import HubReach

Record = Mapping[str, Any]

DEV_NAMES: Final = ("dev", "dev_matched", "validation", "validation_matched")
TEST_NAME: Final = "test"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One task that a source is asked for, and the surroundings that it may use."""

    task: TaskSettings
    data: DataSettings
    argument: Any  # what the scenario says beside the source's name; None where nothing
    hub: HubReach
    base_folder: Path  # where relative paths start
    environment: Mapping[str, str]

    @property
    def header(self) -> tuple[str, ...]:
        """Return the columns of files without a header line; empty where files have one."""
        return self.task.header or ()

    def expand(self, path: str) -> str:
        """Replace `${NAME}` in a path. Raises SourceError for a variable that is not set."""
        try:
            return expand_variables(path, self.environment)
        except ValueError as error:
            raise SourceError(f"The path {path!r} cannot be used: {error}.") from error


@dataclass(frozen=True)
class RawSplit:
    """The records of one split; `origin` names it in errors."""

    origin: str
    records: Sequence[Record]
    label_names: tuple[str, ...] | None = None  # what the source calls its classes, in order
    note: str = ""  # what a reader should know, or nothing
    names_by_column: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # of class numbers, by column
    lines: Sequence[int] = ()  # of the file where each record begins; empty where it has no lines
    malformed: Mapping[int, str] = field(default_factory=dict)  # lines that are no record, and why
    is_table: bool = False  # a file whose columns a header line names

    def place(self, number: int) -> str:
        """Return where a record stands; `number` counts the records from 0."""
        if self.lines:
            return f"{self.origin}, line {self.lines[number]}"
        return f"{self.origin}, example {number + 1}"

    def refuse_malformed(self) -> None:
        """Raise DataProblemsError where a line is no record."""
        if self.malformed:
            raise DataProblemsError([*self.problems.values()])

    @property
    def problems(self) -> dict[int, str]:
        """Return a sentence on every malformed line, by its number."""
        return {n: f"{self.origin}, line {n}: {why}." for n, why in self.malformed.items()}

    def of(self, numbers: Sequence[int], origin: str) -> RawSplit:
        """Return the records with these numbers, counted from 0, under another name."""
        records = [self.records[number] for number in numbers]
        lines = [self.lines[number] for number in numbers] if self.lines else ()
        return replace(self, origin=origin, records=records, lines=lines)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Return the class names behind the numbers in a label column, where they are known."""
        return self.names_by_column.get(column, self.label_names)

    def label(self, record: Record, column: str) -> Any:
        """Return a record's raw label; in a column of class numbers, the name in that place.

        A list of labels gives a list. Raises ValueError for a number without a name; -1 stands
        for no label.
        """
        value, names = record.get(column), self.names_by_column.get(column)
        if isinstance(value, (list, tuple)):
            return [self._named(one, names) for one in value]
        return self._named(value, names)

    @staticmethod
    def _named(value: Any, names: tuple[str, ...] | None) -> Any:
        if names is None or not isinstance(value, int) or isinstance(value, bool):
            return value
        if value == UNPUBLISHED:
            raise ValueError(IS_UNPUBLISHED)
        if not 0 <= value < len(names):
            raise ValueError(f"is {value!r}, and the source names {len(names)} classes")
        return names[value]

    def spellings(self, record: Record, column: str) -> set[str]:
        """Return a value as text; of a class the name, or the number where no name is one."""
        value, names = record.get(column), self.names_by_column.get(column, ())
        if not isinstance(value, int) or not 0 <= value < len(names):
            return {str(value)}
        numeric = any(name.removeprefix("-").isdigit() for name in names)
        return {names[value]} if numeric else {names[value], str(value)}


@dataclass(frozen=True, kw_only=True)
class RawData:
    """A task as one source has it; `dev` is None where the source has one split only."""

    detail: str  # recorded beside every score: path, hub id with revision, ...
    train: RawSplit
    dev: RawSplit | None = None
    task_kind: TaskKind | None = None  # where the source says it
    # The columns are `text`, `text2` and `label` already: the task's `columns` and `where`, which
    # are written for another source, do not apply.
    standard_columns: bool = False


@dataclass(frozen=True)
class Unavailable:
    """Why a source does not have a task; the next source is tried."""

    reason: str  # a full sentence


# A place where tasks' data come from, found by name among the plug-ins: it returns the records of
# a task, or why it does not have them. It raises SourceError where something that is named does not
# exist, DataError where that cannot be read.
Source = Callable[[Request], RawData | Unavailable]


def find_reported(names: Collection[str]) -> str | None:
    """Return which of a source's splits is reported: dev, else test, else None."""
    return next((name for name in (*DEV_NAMES, TEST_NAME) if name in names), None)


def reported_note(name: str | None) -> str:
    """Say in `detail` that a test split is reported in place of dev; nothing for a dev split."""
    return "reported on `test`, for there is no dev split" if name == TEST_NAME else ""


def joined(*parts: str) -> str:
    """Join the parts of a `detail` that say something."""
    return "; ".join(part for part in parts if part)
