"""Data sets of the Hugging Face hub: downloaded where it answers, else from the local cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import DataError, SourceError
from streamlab.locations import hub_obstacle, is_path, near_by
from streamlab.tasks.glue import GLUE, HUB_PATH, HUB_REVISION
from streamlab.tasks.settings import TaskHub
from streamlab.tasks.sources.api import (
    RawData,
    Request,
    Unavailable,
    find_reported,
    joined,
    reported_note,
)
from streamlab.tasks.sources.readers import from_dataset

if TYPE_CHECKING:
    from datasets import Dataset

Splits = Mapping[str, "Dataset"]
Fetch = Callable[[TaskHub, Path | None], Splits]


def fetch_from_hub(hub: TaskHub, cache: Path | None) -> Splits:
    """Download a dataset in silence, or take it from the cache where it is there already."""
    from datasets import load_dataset, utils

    silent = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        splits: Splits = load_dataset(
            hub.path, hub.name, revision=hub.revision, cache_dir=str(cache) if cache else None
        )
    finally:
        if not silent:
            utils.enable_progress_bars()
    return splits


@dataclass(kw_only=True)
class HubReach:
    """Access to the hub; whether it answers is asked at most once, so make one per run.

    `environment` is searched for the hub's own switches to stay offline. `endpoint` and `cache`
    default to those of the hub's library; `fetch` downloads a dataset.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    endpoint: str | None = None
    timeout_seconds: float = 3.0
    cache: Path | None = None
    fetch: Fetch = fetch_from_hub

    def splits(self, hub: TaskHub) -> Splits | Unavailable:
        """Return a dataset's splits, from the hub or, where it is out of reach, from the cache."""
        if self.obstacle is None:
            return self._fetched(hub)
        cached = find_cached(hub, self.cache)
        if cached is None:
            return Unavailable(
                f"{self.obstacle}, and the local cache has no copy of {_title(hub)}."
            )
        return cached

    def _fetched(self, hub: TaskHub) -> Splits | Unavailable:
        try:
            return self.fetch(hub, self.cache)
        # The library lets through errors of five packages, whose only common base is this.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split())[:200] or "no reason given"
            return Unavailable(
                f"The hub did not hand over {_title(hub)} ({type(error).__name__}: {reason})."
            )

    @cached_property
    def obstacle(self) -> str | None:
        """Return why the hub cannot be used, as the start of a sentence, or None where it can."""
        return hub_obstacle(
            environment=self.environment,
            endpoint=self.endpoint,
            timeout_seconds=self.timeout_seconds,
        )


def hub_source(request: Request) -> RawData | Unavailable:
    """Read a task's own hub dataset, or the one known for its dataset's name."""
    if request.argument is not None:
        _refuse_folder(request.argument.path, request.base_folder)
        return read_hub(request.argument, request.hub)
    dataset = request.task.dataset
    entry = GLUE.get(dataset)
    if entry is None:
        return Unavailable(
            f"No hub dataset is known for {dataset!r}; a task can name one of its own in `hub`."
        )
    known = TaskHub(path=HUB_PATH, name=entry.hub_name, revision=HUB_REVISION, dev=entry.hub_dev)
    return read_hub(known, request.hub)


def _refuse_folder(name: str, folder: Path) -> None:
    """Raise SourceError for a dataset's id that is, or can only be, a folder on this machine.

    The hub's library would read a folder of this name in place of the dataset.
    """
    if Path(name).is_dir() or (folder / name).is_dir():
        raise SourceError(
            f"`hub.path` is a dataset's id on the hub, and {name!r} is a folder here. Give "
            f"`files: {{folder: {name}}}` in place of `hub`, or rename the folder."
        )
    if is_path(name, folder):
        advice = near_by(name, folder) or "Check the path."
        raise SourceError(
            f"`hub.path` is a dataset's id on the hub, and {name!r} is the path of a folder that "
            f"does not exist. {advice} A folder is given as `files: {{folder: ...}}`."
        )


def read_hub(hub: TaskHub, reach: HubReach) -> RawData | Unavailable:
    """Read a task's data from the hub or from its local cache.

    Raises DataError where the dataset is there and lacks a split.
    """
    splits = reach.splits(hub)
    if isinstance(splits, Unavailable):
        return splits
    dev = hub.dev or find_reported(splits)
    for wanted in (hub.train, dev):
        if wanted is not None and wanted not in splits:
            raise DataError(
                f"The dataset {_title(hub)} has no split {wanted!r}; there are: "
                f"{', '.join(map(repr, splits))}. Name one of them in `hub`."
            )
    names = hub.train if dev is None else f"{hub.train}, {dev}"
    return RawData(
        detail=joined(f"{_title(hub)}: {names}", reported_note(dev)),
        train=from_dataset(splits[hub.train], f"{_title(hub)} {hub.train}"),
        dev=None if dev is None else from_dataset(splits[dev], f"{_title(hub)} {dev}"),
    )


def find_cached(hub: TaskHub, cache: Path | None) -> Splits | None:
    """Return a dataset that the hub's library prepared earlier, or None where it has not.

    The network is not used. With a revision, only that commit counts. The cache has a folder
    `<dataset>/<configuration>/<version>/<commit>` for each.
    """
    from datasets import Dataset, concatenate_datasets
    from datasets.config import HF_DATASETS_CACHE
    from datasets.naming import camelcase_to_snakecase

    owner, _, name = hub.path.rpartition("/")
    stem = camelcase_to_snakecase(name)
    folder = (cache or Path(HF_DATASETS_CACHE)) / (f"{owner}___{stem}" if owner else stem)
    complete = [
        path
        for path in folder.glob(f"{hub.name or '*'}/*/{hub.revision or '*'}")
        if (path / "dataset_info.json").is_file() and _arrow_files(path, stem)
    ]
    if not complete:
        return None
    newest = max(complete, key=lambda path: path.stat().st_mtime_ns)
    return {
        split: concatenate_datasets([Dataset.from_file(str(path)) for path in files])
        for split, files in _arrow_files(newest, stem).items()
    }


def _arrow_files(folder: Path, stem: str) -> dict[str, list[Path]]:
    """Group `<stem>-<split>.arrow` and `<stem>-<split>-00000-of-00002.arrow` by split."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"{stem}-*.arrow")):
        split = path.stem.removeprefix(f"{stem}-").partition("-")[0]
        files.setdefault(split, []).append(path)
    return files


def _title(hub: TaskHub) -> str:
    name = f"{hub.path}/{hub.name}" if hub.name else hub.path
    return f"{name}@{hub.revision}" if hub.revision else f"{name} (newest revision)"
