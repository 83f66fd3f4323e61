"""The sources of a task in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from streamlab.config import expand_variables
from streamlab.errors import SourceError
from streamlab.tasks.examples import Example
from streamlab.tasks.glue import HUB_PATH, HUB_REVISION, find_entry
from streamlab.tasks.sampling import validation_rows_for
from streamlab.tasks.settings import (
    DataSettings,
    DataSource,
    FolderSource,
    TaskFiles,
    TaskHub,
    TaskSettings,
)
from streamlab.tasks.sources.files import read_from_folder, read_own_files
from streamlab.tasks.sources.hub import HubReach, read_hub
from streamlab.tasks.sources.package import read_package
from streamlab.tasks.sources.records import RawData, RawSplit, Unavailable

GENERATOR_SEED: Final = 0  # one data set, the same for every seed of a scenario
MOST_SYNTHETIC_EXAMPLES: Final = 1000  # to learn from, and as many to report on

Attempt = Callable[[], RawData | Unavailable]


def attempts(
    settings: TaskSettings,
    data: DataSettings,
    *,
    hub: HubReach,
    base_folder: Path,
    environment: Mapping[str, str],
) -> Iterator[tuple[str, Attempt]]:
    """Yield each source under a title: the task's own, then those of `data.sources`.

    Nothing is read before an attempt is called. A call raises SourceError where what is named
    does not exist, DataError where it cannot be read.
    """
    files, own_hub, package = settings.files, settings.hub, settings.package
    if files is not None:
        yield "its own files", lambda: _own_files(files, base_folder, environment)
    if own_hub is not None:
        yield "its own hub dataset", lambda: read_hub(own_hub, hub)
    if package is not None:
        yield "its own package", lambda: read_package(package)
    for source in data.sources:
        yield _shared_source(source, settings, data, hub, base_folder, environment)


def _shared_source(
    source: DataSource,
    settings: TaskSettings,
    data: DataSettings,
    hub: HubReach,
    base_folder: Path,
    environment: Mapping[str, str],
) -> tuple[str, Attempt]:
    if isinstance(source, FolderSource):
        return "files", lambda: _folder(source, settings.dataset, base_folder, environment)
    if source == "hub":
        return "hub", lambda: _catalogued(settings.dataset, hub)
    return "synthetic", lambda: _synthetic(settings, data)


def _own_files(
    files: TaskFiles, base_folder: Path, environment: Mapping[str, str]
) -> RawData | Unavailable:
    expanded = {name: _expanded(path, environment) for name, path in files if path is not None}
    if not all(expanded.values()):
        return Unavailable("A path is empty once its variables are filled in.")
    return read_own_files(TaskFiles(**expanded), base_folder)


def _folder(
    source: FolderSource, dataset: str, base_folder: Path, environment: Mapping[str, str]
) -> RawData | Unavailable:
    folder = _expanded(source.files, environment)
    if not folder:
        return Unavailable(f"No folder is given: {source.files!r} is empty.")
    return read_from_folder(base_folder / folder, dataset)


def _expanded(path: str, environment: Mapping[str, str]) -> str:
    try:
        return expand_variables(path, environment)
    except ValueError as error:
        raise SourceError(f"The path {path!r} cannot be used: {error}.") from error


def _catalogued(dataset: str, hub: HubReach) -> RawData | Unavailable:
    entry = find_entry(dataset)
    if entry is None:
        return Unavailable(
            f"No hub dataset is known for {dataset!r}; a task can name one of its own in `hub`."
        )
    known = TaskHub(path=HUB_PATH, name=entry.hub_name, revision=HUB_REVISION, dev=entry.hub_dev)
    return read_hub(known, hub)


def _synthetic(settings: TaskSettings, data: DataSettings) -> RawData | Unavailable:
    from streamlab.tasks.synthetic import describes, generate

    dataset = settings.dataset
    if not describes(dataset):
        return Unavailable(f"There is no synthetic data in the shape of {dataset!r}.")
    n_most = settings.max_train_examples or data.max_train_examples or MOST_SYNTHETIC_EXAMPLES
    n_learnt = min(n_most, MOST_SYNTHETIC_EXAMPLES)
    n_train = n_learnt + validation_rows_for(n_learnt, data.validation_share)
    n_dev = min(settings.max_eval_examples or data.max_eval_examples, MOST_SYNTHETIC_EXAMPLES)
    train, dev = generate(dataset, n_train=n_train, n_dev=n_dev, seed=GENERATOR_SEED)
    entry = find_entry(dataset)
    labels = entry.labels if entry and entry.labels else None
    return RawData(
        kind="synthetic",
        detail=f"synthetic data in the shape of {dataset}, data seed {GENERATOR_SEED}, "
        f"{len(train)} train and {len(dev)} dev examples",
        train=RawSplit(f"The synthetic train split of {dataset}", _records(train), labels),
        dev=RawSplit(f"The synthetic dev split of {dataset}", _records(dev), labels),
    )


def _records(rows: list[Example]) -> list[dict[str, object]]:
    return [{"text": row.text, "text2": row.text2, "label": row.label} for row in rows]
