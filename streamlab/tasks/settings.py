"""Settings of a task's data and of the data sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PositiveInt,
    field_validator,
    model_validator,
)

from streamlab.config import Settings
from streamlab.errors import UsageError
from streamlab.plugins import load
from streamlab.tasks.metrics import find_metric, suited_names
from streamlab.tasks.types import TaskKind, task_type

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
    """The columns of a source; by default `text`, `text2` (for pairs) and `label`."""

    text: str | None = Field(default=None, min_length=1)
    text2: str | None = Field(default=None, min_length=1)
    label: str | None = Field(default=None, min_length=1)


class TaskFiles(Settings):
    """A task's own files: one `folder` for all splits, or one path per split.

    Paths are relative to the scenario's folder and may use `${NAME}`. A path may be a JSONL, CSV,
    TSV or Parquet file, a `save_to_disk` folder, or a folder with one sub-folder per class.
    """

    folder: str | None = Field(default=None, min_length=1)
    train: str | None = Field(default=None, min_length=1)
    dev: str | None = Field(default=None, min_length=1)
    test: str | None = Field(default=None, min_length=1)  # reported where there is no dev

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
    name: str | None = Field(default=None, min_length=1)  # of the configuration
    revision: str | None = Field(default=None, min_length=1)  # a commit: the data cannot change
    train: str = Field(default="train", min_length=1)
    dev: str | None = Field(default=None, min_length=1)


def _listed(given: Any) -> Any:
    """Take one metric as a list of one."""
    return [given] if isinstance(given, str) else given


def _known_metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse unknown metrics, and two of the same name."""
    try:
        found = [find_metric(name).name for name in names]
    except UsageError as error:
        raise ValueError(str(error)) from error
    if len(set(found)) < len(found):
        raise ValueError("the same metric is given twice")
    return names


class TaskSettings(Settings):
    """One task: its dataset, how to read it, and its metrics.

    Own `files`, `hub` or `package` are tried, in this order, before the sources of `data`.
    `columns` and `where` apply to every source but the synthetic one.
    """

    dataset: str  # glue/sst2 and the like, or a new name
    kind: TaskKind | None = None  # default: what the source says, else classification
    labels: tuple[str, ...] | None = Field(default=None, min_length=2)  # class names in order
    metric: (
        Annotated[
            tuple[str, ...],
            BeforeValidator(_listed),
            AfterValidator(_known_metrics),
            Field(min_length=1),
        ]
        | None
    ) = None  # default: those of the catalogue, else the type's
    columns: Columns = Columns()
    where: Mapping[str, str | int | bool] = Field(default_factory=dict)  # keep matching records
    files: TaskFiles | None = None
    hub: TaskHub | None = None
    package: str | None = Field(default=None, min_length=1)  # NAME/path inside the package
    dev_share: float = Field(default=0.2, gt=0, le=0.5)  # of a source with one split only
    max_train_examples: PositiveInt | None = None  # default: the one of `data`
    max_eval_examples: PositiveInt | None = None  # default: the one of `data`

    @field_validator("dataset")
    @classmethod
    def _dataset_is_a_name(cls, dataset: str) -> str:
        if not _DATASET.fullmatch(dataset) or {".", ".."} & set(dataset.split("/")):
            raise ValueError("must be a name such as `glue/sst2` or `reviews`, and no path")
        return dataset

    @field_validator("labels")
    @classmethod
    def _no_name_twice(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("the same name is given twice")
        return names

    @model_validator(mode="after")
    def _suits_kind(self) -> TaskSettings:
        if self.kind is None:
            return self
        if self.labels:
            try:
                task_type(self.kind).check_labels(self.labels)
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

    # `{files: FOLDER}`: a folder with one sub-folder per task; none where the name is empty.
    sources: tuple[DataSource, ...] = ({"files": "${STREAMLAB_DATA:-}"}, "hub", "synthetic")
    max_train_examples: PositiveInt | None = None  # None: all there are
    max_eval_examples: PositiveInt = 1000
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
