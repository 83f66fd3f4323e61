"""Settings of a task's data and of the data sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from streamlab.config import Settings
from streamlab.errors import UsageError
from streamlab.plugins import load
from streamlab.tasks.metrics import find_metric, suited_names
from streamlab.tasks.types import task_type
from streamlab.tasks.types.contract import TaskKind

_DATASET: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*")

# Each a `tasks.sources.api.Source`, imported when it is used.
SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "files": "streamlab.tasks.sources.local_files:file_source",
        "hub": "streamlab.tasks.sources.hub:hub_source",
        "package": "streamlab.tasks.sources.local_files:package_source",
        "synthetic": "streamlab.tasks.synthetic.generator:synthetic_source",
    }
)


class Columns(Settings):
    """The columns of a source; by default `text`, `text2` (for pairs) and `label`.

    Of `multi_label`: `text`, `text2` and `labels`; of `tokens`: `tokens` and `tags`; of
    `causal_lm`: `prompt` and `completion`.
    """

    text: str | None = Field(default=None, min_length=1)
    """The column of the text, of the first text of a pair, of the words, or of the prompt."""
    text2: str | None = Field(default=None, min_length=1)
    """The column of the second text of a pair."""
    label: str | None = Field(default=None, min_length=1)
    """The column of the label, of the labels or tags as a list, or of the completion."""


class TaskFiles(Settings):
    """A task's own files: one `folder` for all splits, or one path per split.

    Paths are relative to the scenario's folder and may use `${NAME}`. A path may be a JSONL, CSV,
    TSV, Parquet or CoNLL file (`.conll`), a `save_to_disk`
    folder, or a folder with one sub-folder per class.
    """

    folder: str | None = Field(default=None, min_length=1)
    """A folder with all splits."""
    train: str | None = Field(default=None, min_length=1)
    """The training split."""
    dev: str | None = Field(default=None, min_length=1)
    """The split that is reported."""
    test: str | None = Field(default=None, min_length=1)
    """Reported if there is no `dev`."""

    @model_validator(mode="after")
    def _either_folder_or_train(self) -> TaskFiles:
        if (self.folder is None) == (self.train is None):
            raise ValueError("give either `folder`, or `train` with `dev` or `test`")
        if self.folder is not None and (self.dev or self.test):
            raise ValueError("`folder` holds all splits; leave `dev` and `test` out")
        return self


class TaskHub(Settings):
    """A task's own dataset on the hub; where `dev` is not given, the usual names are tried."""

    path: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """The dataset's id."""
    name: str | None = Field(default=None, min_length=1)
    """The name of a configuration."""
    revision: str | None = Field(default=None, min_length=1)
    """A commit pins the data."""
    train: str = Field(default="train", min_length=1)
    """The name of the training split."""
    dev: str | None = Field(default=None, min_length=1)
    """The name of the split that is reported."""


def _known_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse unknown metrics, and two of the same name."""
    try:
        found = [find_metric(name).name for name in names]
    except UsageError as error:
        raise ValueError(str(error)) from error
    if len(set(found)) < len(found):
        raise ValueError("the same metric is given twice")
    if names and find_metric(names[0]).lower_is_better:
        raise ValueError(
            f"`{names[0]}` cannot come first, as less of it is better; put another before it"
        )
    return names


def _no_name_twice(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("the same name is given twice")
    return names


Labels = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_no_name_twice)]


def check_class_weights(weights: tuple[float, ...], labels: tuple[str, ...]) -> None:
    """Raise ValueError unless there is a weight for every class."""
    if len(weights) != len(labels):
        raise ValueError(
            f"`class_weights` has {len(weights)} numbers for {len(labels)} classes "
            f"({', '.join(labels)}); give one for each"
        )


def _as_one_choice(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Refuse what is neither choice in one sentence, in place of one for each choice."""
    try:
        return read(value)
    except ValidationError as error:
        raise ValueError(
            "must be `balanced` or a list of numbers above 0, one for each class"
        ) from error


ClassWeights = Annotated[
    Literal["balanced"]
    | Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(min_length=2)],
    WrapValidator(_as_one_choice),
]


def _as_written(value: object) -> object:
    """Refuse what cannot be compared with a file as text, such as 1e5, which is read as 100000."""
    if not isinstance(value, (str, int)):
        raise ValueError("must be text, a whole number, true or false; write it in quotes")
    return value


class TaskSettings(Settings):
    """One task: its dataset, how to read it, and its metrics.

    Own `files`, `hub` or `package` are tried, in this order, before the sources of `data`.
    `columns` and `where` apply to every source but the synthetic one.
    """

    dataset: str
    """A dataset of the catalogue, such as `glue/sst2`, or a new name."""
    kind: TaskKind | None = None
    """`classification`: one class; `regression`: a number; `multi_label`: any number of classes;
    `tokens`: a tag for every word; `causal_lm`: a completion for a prompt. Default: what the
    source states; else `tokens`, `multi_label` or `causal_lm` where the columns show it (lists of
    words and tags, lists of labels, `prompt` and `completion`), which is recorded; else
    classification."""
    labels: Labels | None = None
    """Class names in order. Default: those of the catalogue or the source. Of `multi_label`,
    columns with these names, holding 0 or 1, take the place of a list."""
    class_weights: ClassWeights | None = None
    """Multiply the loss of each class: `balanced`, by the inverse of its share of the training
    examples, or a list in the order of `labels`. Scaled to a mean of 1 over the training examples.
    Default: all classes alike."""
    metric: (
        Annotated[
            tuple[str, ...],
            BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
            AfterValidator(_known_metrics),
            Field(min_length=1),
        ]
        | None
    ) = None
    """One or more metrics, the primary one first: built-in, or a plug-in. Default: those of the
    catalogue, else of the kind. `perplexity`, of which less is better, cannot come first."""
    columns: Columns = Columns()
    """The columns of the source, if they are not `text`, `text2` and `label`."""
    header: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1)], ...],
            Field(min_length=2),
            AfterValidator(_no_name_twice),
        ]
        | None
    ) = None
    """The names of the columns, in order, for CSV and TSV files without a header line."""
    where: Mapping[str, Annotated[str | int | bool, BeforeValidator(_as_written)]] = Field(
        default_factory=dict
    )
    """Use only the records whose columns have these values."""
    files: TaskFiles | None = None
    """Local files. Paths start at the scenario's folder."""
    hub: TaskHub | None = None
    """A dataset of the hub."""
    package: str | None = Field(default=None, min_length=1)
    """`NAME/path`: a file or folder inside an installed package."""
    dev_share: float = Field(default=0.2, gt=0, le=0.5)
    """The share that is split off for reporting if the source has a single split."""
    max_train_examples: PositiveInt | None = None
    """Default: the value of `data`."""
    max_eval_examples: PositiveInt | None = None
    """Default: the value of `data`."""

    @field_validator("dataset")
    @classmethod
    def _dataset_is_a_name(cls, dataset: str) -> str:
        if not _DATASET.fullmatch(dataset) or {".", ".."} & set(dataset.split("/")):
            raise ValueError("must be a name such as `glue/sst2` or `reviews`, and no path")
        return dataset

    @model_validator(mode="after")
    def _suits_kind(self) -> TaskSettings:
        if self.labels and isinstance(self.class_weights, tuple):
            check_class_weights(self.class_weights, self.labels)
        if self.kind is None:
            return self
        of_type = task_type(self.kind)
        if self.class_weights is not None and not of_type.takes_class_weights:
            raise ValueError(f"{of_type.title} has no `class_weights`; leave them out")
        if self.labels:
            try:
                of_type.check_labels(self.labels)
            except ValueError as error:
                raise ValueError(f"{error}; leave them out, or change `kind`") from error
        if self.metric and not all(self.kind in find_metric(m).kinds for m in self.metric):
            suited = ", ".join(suited_names(self.kind))
            raise ValueError(f"`metric` for {self.kind} must be among {suited}")
        return self


def name_and_argument(source: str | Mapping[str, Any]) -> tuple[str, Any]:
    """Split an entry of `data.sources`: `NAME`, or `NAME: ARGUMENT` as a mapping of one key.

    Raises ValueError for any other mapping.
    """
    if isinstance(source, str):
        return source, None
    if len(source) != 1:
        raise ValueError(f"give one source as `NAME: ARGUMENT`, got {len(source)} keys")
    return next(iter(source.items()))


def _known_source(source: str | dict[str, JsonValue]) -> str | dict[str, JsonValue]:
    name, argument = name_and_argument(source)
    if name == "files" and not isinstance(argument, str):
        raise ValueError("give the folder as `files: FOLDER`; an empty name means none")
    if name in ("hub", "synthetic") and argument is not None:
        raise ValueError(f"`{name}` takes no argument; a task can name data of its own")
    if name == "package":
        raise ValueError("a package is named by a task, in its own `package`")
    try:
        if name not in SOURCES and not callable(load("streamlab.sources", name, SOURCES)):
            raise ValueError(f"the data source {name!r} cannot be called; correct the plug-in")
    except UsageError as error:
        raise ValueError(str(error)) from error
    return source


DataSource = Annotated[str | dict[str, JsonValue], AfterValidator(_known_source)]


class DataSettings(Settings):
    """The data sources, of which the first that has a task is used, and numbers of examples.

    Examples for choosing (`validation_share`) are split from train by seed; there are at least 32
    and at most 500 of them, and never more than a third of the split.
    """

    sources: tuple[DataSource, ...] = ({"files": "${STREAMLAB_DATA:-}"}, "hub", "synthetic")
    """Tried in order. `{files: FOLDER}` is a folder with one sub-folder per task; an empty name is
    skipped."""
    max_train_examples: PositiveInt | None = None
    """Sampled by seed. Default: all."""
    max_eval_examples: PositiveInt = 1000
    """Examples to report on, the same for every seed."""
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    """The share of the training examples that is split off for choosing: 32 to 500 examples, at
    most a third."""
    on_bad_example: Literal["refuse", "skip"] = "refuse"
    """What happens to an example without a text or with an unknown label. `skip` leaves it out
    and records how many were left out."""
