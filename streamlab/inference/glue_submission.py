"""A submission to the GLUE leaderboard: one TSV file for each of its test sets.

Names, headers and label words are those that gluebenchmark.com documents: nine tasks, MNLI with two
test sets, and the diagnostic set AX, which the model of MNLI answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamlab.errors import DataError, StreamlabError, UsageError
from streamlab.files import atomic_folder
from streamlab.inference.inputs import texts_in
from streamlab.tasks.glue import GLUE, HUB_PATH, HUB_REVISION
from streamlab.tasks.labels import ClassReader
from streamlab.tasks.settings import TaskHub
from streamlab.tasks.sources.api import RawSplit, Record, Unavailable
from streamlab.tasks.sources.readers import READERS, from_dataset, read_split

if TYPE_CHECKING:
    from streamlab.inference.model import LoadedBase
    from streamlab.inference.stored_task import StoredTask, Text
    from streamlab.tasks.sources.hub import HubReach
    from streamlab.tasks.types.contract import Prediction

_INDICES: Final = ("index", "idx", "id")  # the example's number, in one column of these
# What the official files call texts that the hub calls otherwise.
_OFFICIAL_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "glue/mrpc": ("#1 String", "#2 String"),
    "glue/mnli": ("sentence1", "sentence2"),
}


@dataclass(frozen=True)
class SubmissionFile:
    """One file of a submission, and where its examples are found."""

    name: str  # of the file, and of the task's folder in the official download
    dataset: str  # whose model answers
    n_examples: int  # in the test set
    split: str = "test"
    folders: tuple[str, ...] = ()  # beside those of the dataset
    hub_name: str | None = None  # of the configuration; default: the dataset's own
    words: bool = False  # labels are words, not class numbers

    @property
    def places(self) -> tuple[str, ...]:
        """Return the folders that may hold the examples, best first."""
        if self.folders:
            return self.folders
        return (self.dataset, self.dataset.rpartition("/")[2], self.name)

    @property
    def file_name(self) -> str:
        """Return the name of the file in the submission."""
        return f"{self.name}.tsv"


FILES: Final = (
    SubmissionFile("CoLA", "glue/cola", 1_063),
    SubmissionFile("SST-2", "glue/sst2", 1_821),
    SubmissionFile("MRPC", "glue/mrpc", 1_725),
    SubmissionFile("STS-B", "glue/stsb", 1_379),
    SubmissionFile("QQP", "glue/qqp", 390_965),
    SubmissionFile(
        "MNLI-m", "glue/mnli", 9_796, "test_matched", ("glue/mnli", "mnli", "MNLI"), words=True
    ),
    SubmissionFile(
        "MNLI-mm", "glue/mnli", 9_847, "test_mismatched", ("glue/mnli", "mnli", "MNLI"), words=True
    ),
    SubmissionFile("QNLI", "glue/qnli", 5_463, words=True),
    SubmissionFile("RTE", "glue/rte", 3_000, words=True),
    SubmissionFile("WNLI", "glue/wnli", 146),
    SubmissionFile(
        "AX", "glue/mnli", 1_104, folders=("glue/ax", "ax", "AX", "diagnostic"), hub_name="ax",
        words=True,
    ),
)  # fmt: skip


def find_models(tasks: Mapping[str, StoredTask]) -> dict[str, StoredTask]:
    """Return the one stored task of each GLUE dataset, by its dataset.

    Raises UsageError naming every dataset without one, or with several.
    """
    by_dataset: dict[str, dict[str, StoredTask]] = {}
    for name, task in tasks.items():
        by_dataset.setdefault(task.description().dataset, {})[name] = task
    lacking = [dataset for dataset in GLUE if dataset not in by_dataset]
    if lacking:
        raise UsageError(
            f"A submission needs all nine GLUE tasks, and the run has no finished task on "
            f"{', '.join(lacking)}. Train what is missing, or name another run with `--run`."
        )
    for dataset in GLUE:
        if len(by_dataset[dataset]) > 1:
            names = ", ".join(f"`{name}`" for name in by_dataset[dataset])
            raise UsageError(
                f"{names} are all trained on {dataset}, and a submission has one answer to each "
                "example. Name a run with `--run` that has one of them."
            )
    return {dataset: next(iter(by_dataset[dataset].values())) for dataset in GLUE}


def read_tests(folder: Path | None, hub: HubReach) -> dict[str, RawSplit]:
    """Read every test set from a folder with one sub-folder a task, else from the hub.

    Raises DataError naming every test set that is in neither, or cannot be read.
    """
    found: dict[str, RawSplit] = {}
    problems: list[str] = []
    for file in FILES:
        try:
            found[file.name] = _read_test(file, folder, hub)
        except StreamlabError as error:
            problems.append(f"  {file.file_name}: {error}")
    if problems:
        raise DataError("\n".join(["The test sets cannot all be read:", *problems]))
    return found


def _read_test(file: SubmissionFile, folder: Path | None, hub: HubReach) -> RawSplit:
    if folder is not None:
        names = [f"{file.split}{suffix}" for suffix in READERS]
        names += [f"{stem}.tsv" for stem in ("diagnostic", "AX") if file.name == "AX"]
        paths = (folder / place / name for place in file.places for name in names)
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            split = read_split(path)
            split.refuse_malformed()  # a submission has a line for every example
            return split
    config = file.hub_name or GLUE[file.dataset].hub_name
    splits = hub.splits(TaskHub(path=HUB_PATH, name=config, revision=HUB_REVISION))
    if not isinstance(splits, Unavailable):
        return from_dataset(splits[file.split], f"{HUB_PATH}/{config} {file.split}")
    tried = f"{folder} has no {file.split} for it."
    if folder is None:
        tried = (
            "`STREAMLAB_DATA` is not set and `--test-data` not given, so that no folder is read."
        )
    raise DataError(f"{tried} {splits.reason}")


@dataclass(frozen=True)
class Answers:
    """The contents of one file: a line for each example, by its index in the test set."""

    file: SubmissionFile
    lines: tuple[tuple[int, str], ...]

    @property
    def text(self) -> str:
        """Return the file: a header, then a line for each example, separated by tabs."""
        rows = (("index", "prediction"), *self.lines)
        return "".join(f"{index}\t{answer}\n" for index, answer in rows)


def answer_tests(
    base: LoadedBase,
    models: Mapping[str, StoredTask],
    tests: Mapping[str, RawSplit],
    *,
    batch_size: int = 64,
) -> Iterator[Answers]:
    """Predict for every test set with the model of its dataset, and yield one file at a time.

    Raises DataError for an example that cannot be used, UsageError for classes that are not the
    dataset's.
    """
    for file in FILES:
        stored, split = models[file.dataset], tests[file.name]
        description = stored.description()
        entry = GLUE[file.dataset]
        texts = _texts(file, split, stored)
        with stored.applied(base) as served:
            predictions = served.predict(texts, batch_size=batch_size)
        reader = None
        if description.type.has_classes:
            reader = ClassReader(entry.labels, description.labels, f"The task of {file.file_name}")
        answers = (_written(file, reader, one) for one in predictions)
        lines = zip(_indices(split), answers, strict=True)
        yield Answers(file, tuple(sorted(lines)))


def write_submission(folder: Path, answers: Sequence[Answers]) -> tuple[Path, ...]:
    """Write the files of a submission into a new or empty folder, all or none.

    Raises StoreError where the disk refuses.
    """
    with atomic_folder(folder) as temporary:
        for one in answers:
            (temporary / one.file.file_name).write_bytes(one.text.encode())
    return tuple(folder / one.file.file_name for one in answers)


def _texts(file: SubmissionFile, split: RawSplit, stored: StoredTask) -> list[Text]:
    columns = dict(stored.artifact.columns)
    official = _OFFICIAL_COLUMNS.get(file.dataset)
    if official is not None and split.records and set(official) <= set(split.records[0]):
        columns |= dict(zip(("text", "text2"), official, strict=True))
    return texts_in(split.records, stored.description(), columns, origin=split.origin)


def _indices(split: RawSplit) -> list[int]:
    """Return the examples' numbers. Raises DataError unless they are 0 to n - 1, each once."""
    found = [_index(place, record) for place, record in enumerate(split.records)]
    if sorted(found) != list(range(len(found))):
        raise DataError(
            f"The examples of {split.origin} are not numbered from 0 to {len(found) - 1}, as in "
            "GLUE's test sets. Give the whole test set as it is published."
        )
    return found


def _index(place: int, record: Record) -> int:
    value = next((record[name] for name in _INDICES if name in record), place)
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def _written(file: SubmissionFile, reader: ClassReader | None, answer: Prediction) -> str:
    """Write one answer as the leaderboard reads it: a word, a class number, or 0.000 to 5.000."""
    if reader is None:
        return f"{min(max(answer.value or 0.0, 0.0), 5.0):.3f}"
    number = reader.read(answer.label)
    return GLUE[file.dataset].labels[number] if file.words else str(number)
