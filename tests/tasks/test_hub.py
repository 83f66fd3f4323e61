from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from datasets.arrow_writer import ArrowWriter

from streamlab.errors import DataError
from streamlab.tasks.glue import HUB_REVISION
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskHub, TaskSettings
from streamlab.tasks.sources.api import RawData, Unavailable
from streamlab.tasks.sources.hub import HubReach, Splits, read_hub
from streamlab.tasks.types.example import Example

REVISION = "0123456789abcdef"


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """Serve one status to every request; yields the address and the requests seen."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            seen.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def nobody() -> str:
    """Return an address of this machine at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[TaskHub, Path | None], Splits]:
    """Stand in for the hub by a folder on disk."""
    rows = {"text": ["a", "b"], "label": [0, 1]}
    splits = {name: Dataset.from_dict(rows) for name in ("train", "validation", "test")}
    DatasetDict(splits).save_to_disk(str(tmp_path / "hub"))

    def fetch(hub: TaskHub, _cache: Path | None) -> Splits:
        splits: Splits = load_from_disk(str(tmp_path / hub.path))
        return splits

    return fetch


def fill_cache(cache: Path, folder: str, files: dict[str, list[dict[str, Any]]]) -> None:
    """Lay out a prepared dataset as the hub's library does."""
    (cache / folder).mkdir(parents=True)
    for name, rows in files.items():
        with ArrowWriter(path=str(cache / folder / name)) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
    (cache / folder / "dataset_info.json").write_text("{}")


def test_a_hub_that_answers_is_asked_once() -> None:
    with answering(200) as (address, seen):
        reach = HubReach(environment={}, endpoint=address)

        assert [reach.obstacle for _ in range(3)] == [None] * 3
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "reachable"), [(404, True), (429, True), (403, False), (407, False), (503, False)]
)
def test_a_gateways_refusal_is_no_hub(status: int, reachable: bool) -> None:
    with answering(status) as (address, _):
        obstacle = HubReach(environment={}, endpoint=address).obstacle

    assert (obstacle is None) is reachable
    assert reachable or f"(answer {status})" in str(obstacle)


def test_a_hub_where_nothing_listens_cannot_be_reached() -> None:
    obstacle = HubReach(environment={}, endpoint=nobody()).obstacle

    assert str(obstacle).startswith("The hub cannot be reached (")


def test_an_address_that_is_none_is_said() -> None:
    obstacle = HubReach(environment={}, endpoint="file:///etc/passwd").obstacle

    assert obstacle == "The hub's address 'file:///etc/passwd' is no web address"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_means_that_nothing_is_asked(variable: str) -> None:
    with answering(200) as (address, seen):
        reach = HubReach(environment={variable: "1"}, endpoint=address)

        assert reach.obstacle == f"The hub is switched off by `{variable}`"
        assert seen == []


def test_offline_set_to_no_is_online() -> None:
    with answering(200) as (address, _):
        reach = HubReach(environment={"HF_HUB_OFFLINE": "0"}, endpoint=address)

        assert reach.obstacle is None


def test_a_reachable_dataset_is_read(saved: Callable[[TaskHub, Path | None], Splits]) -> None:
    with answering(200) as (address, _):
        reach = HubReach(environment={}, endpoint=address, fetch=saved)
        raw = read_hub(TaskHub(path="hub", name="sst2", revision=REVISION), reach)

    assert isinstance(raw, RawData)
    assert raw.detail == f"hub/sst2@{REVISION}: train, validation"
    assert raw.train.records == [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


def test_a_dataset_is_fetched_in_silence_into_the_cache_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The library takes a folder that is called like the dataset for the dataset.
    (tmp_path / "owner" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "owner" / "data" / f"{split}.jsonl").write_text('{"text": "a", "label": 1}')
    monkeypatch.chdir(tmp_path)

    with answering(200) as (address, _):
        reach = HubReach(environment={}, endpoint=address, cache=tmp_path / "cache")
        raw = read_hub(TaskHub(path="owner/data"), reach)

    assert isinstance(raw, RawData)
    assert raw.detail == (
        "owner/data (newest revision): train, test; reported on `test`, for there is no dev split"
    )
    assert raw.train.records == [{"text": "a", "label": 1}]
    assert list((tmp_path / "cache").rglob("*.arrow"))
    assert capfd.readouterr() == ("", "")


def test_a_split_the_dataset_lacks_is_named(
    saved: Callable[[TaskHub, Path | None], Splits],
) -> None:
    with answering(200) as (address, _):
        reach = HubReach(environment={}, endpoint=address, fetch=saved)
        with pytest.raises(DataError, match="no split 'dev'; there are: 'train', 'validation'"):
            read_hub(TaskHub(path="hub", dev="dev"), reach)


def test_a_dataset_the_hub_lacks_is_a_reason_and_no_crash(
    saved: Callable[[TaskHub, Path | None], Splits],
) -> None:
    with answering(200) as (address, _):
        reach = HubReach(environment={}, endpoint=address, fetch=saved)
        raw = read_hub(TaskHub(path="other"), reach)

    assert isinstance(raw, Unavailable)
    assert raw.reason.startswith("The hub did not hand over other (newest revision) (FileNotFound")


def test_offline_with_an_empty_cache_is_a_reason(tmp_path: Path) -> None:
    reach = HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=tmp_path)

    raw = read_hub(TaskHub(path="nyu-mll/glue", name="sst2"), reach)

    assert raw == Unavailable(
        "The hub is switched off by `HF_HUB_OFFLINE`, and the local cache has no copy of "
        "nyu-mll/glue/sst2 (newest revision)."
    )


def test_offline_reads_what_was_prepared_earlier(tmp_path: Path) -> None:
    files = {
        "my_glue-train-00000-of-00002.arrow": [{"text": "a"}],
        "my_glue-train-00001-of-00002.arrow": [{"text": "b"}],
        "my_glue-validation_matched.arrow": [{"text": "c"}],
    }
    fill_cache(tmp_path, f"nyu-mll___my_glue/mnli/0.0.0/{REVISION}", files)
    fill_cache(
        tmp_path, "nyu-mll___my_glue/rte/0.0.0/other", {"my_glue-train.arrow": [{"text": "z"}]}
    )
    reach = HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=tmp_path)

    raw = read_hub(TaskHub(path="nyu-mll/MyGlue", name="mnli", revision=REVISION), reach)

    assert isinstance(raw, RawData)
    assert raw.dev is not None
    assert [record["text"] for record in raw.train.records] == ["a", "b"]
    assert [record["text"] for record in raw.dev.records] == ["c"]


def test_mnli_is_reported_on_its_matched_split_at_the_pinned_commit(tmp_path: Path) -> None:
    rows = [{"premise": f"p{n}", "hypothesis": f"h{n}", "label": n % 3} for n in range(30)]
    splits = ("train", "validation_matched", "validation_mismatched")
    files = {
        f"glue-{split}.arrow": [{**row, "premise": f"{split} {n}"} for n, row in enumerate(rows)]
        for split in splits
    }
    fill_cache(tmp_path, f"nyu-mll___glue/mnli/0.0.0/{HUB_REVISION}", files)
    reach = HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=tmp_path)

    task = load_task(
        "mnli",
        TaskSettings(dataset="glue/mnli"),
        DataSettings(sources=("hub",)),
        seed=1,
        hub=reach,
        base_folder=tmp_path,
    )

    assert task.source.kind == "hub"
    assert task.source.detail == f"nyu-mll/glue/mnli@{HUB_REVISION}: train, validation_matched"
    assert task.dev[4] == Example("validation_matched 4", "h4", 1)


def test_another_revision_in_the_cache_will_not_do(tmp_path: Path) -> None:
    fill_cache(tmp_path, "owner___data/default/0.0.0/older", {"data-train.arrow": [{"text": "a"}]})
    reach = HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=tmp_path)

    raw = read_hub(TaskHub(path="owner/data", revision=REVISION), reach)

    assert isinstance(raw, Unavailable)


def test_the_next_source_is_tried_and_the_reason_kept(tmp_path: Path) -> None:
    task = load_task(
        "sst2",
        TaskSettings(dataset="glue/sst2", max_train_examples=40, max_eval_examples=20),
        DataSettings(sources=("hub", "synthetic")),
        seed=1,
        hub=HubReach(environment={"HF_HUB_OFFLINE": "1"}, cache=tmp_path),
        base_folder=tmp_path,
    )

    assert task.source.synthetic
    assert len(task.tried) == 1
    assert task.tried[0].startswith("hub: The hub is switched off by `HF_HUB_OFFLINE`, and")
