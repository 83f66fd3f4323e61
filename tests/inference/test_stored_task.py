"""A stored task in use: the very answers it was scored by, on the very base, and then off again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from stream_samples import Lab, Ran, arrivals_in, scores_in

from streamlab import open_home
from streamlab.diff.format.container import encode
from streamlab.diff.vector import SparseTensor
from streamlab.errors import (
    DataError,
    DiffError,
    NotInRegistryError,
    RegistryError,
    StoreError,
    UsageError,
)
from streamlab.home.store import FolderStore
from streamlab.inference.stored_task import StoredTask
from streamlab.registry.references import Artifact
from streamlab.tasks.metrics import find_metric, score
from streamlab.tasks.types import task_type

if TYPE_CHECKING:
    from pathlib import Path

    from streamlab.inference.model import LoadedBase
    from streamlab.library.home import OpenHome

DESCRIPTION: dict[str, Any] = {
    "task": "mood", "kind": "classification", "labels": ["0", "1"], "max_length": 16,
}  # fmt: skip


def dev_rows(lab: Lab, task: str) -> list[dict[str, Any]]:
    lines = (lab.folder / "rows" / task / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def texts_of(rows: list[dict[str, Any]]) -> list[Any]:
    return [(r["text"], r["text2"]) if "text2" in r else r["text"] for r in rows]


def bits(loaded: LoadedBase) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in loaded.model.parameters()]


def stored_again(opened: OpenHome, loaded: LoadedBase, folder: Path, **changes: Any) -> StoredTask:
    """Store a changed copy of the mood task's diff in a store of its own."""
    mood = opened.task("mood")
    diff = replace(mood.diff(loaded.base.layout), **changes)
    store = FolderStore(folder)
    digest = store.put(encode(diff, value_type="fp32").data)
    return StoredTask(Artifact(replace(mood.artifact.diff, digest=digest), None), store)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("task", ["mood", "same", "degree"])
def test_answers_are_those_that_were_scored(
    task: str, seed: int, ran: Ran, lab: Lab, opened: OpenHome, loaded: LoadedBase
) -> None:
    rows = dev_rows(lab, task)
    with opened.task(task, seed=seed).applied(loaded) as served:
        found = served.predict(texts_of(rows))

    recorded: dict[str, float] = {
        s.metric: s.value
        for s in scores_in(ran.home)
        if (s.task, s.seed, s.method, s.split) == (task, seed, "diff_pruning", "dev")
    }
    labels = np.array([row["label"] for row in rows])
    if task == "degree":
        outputs = np.array([[p.value] for p in found], np.float32)
        labels = labels.astype(np.float32)
    else:
        outputs = np.log(np.array([[*p.probabilities.values()] for p in found]))
    of_type = task_type("regression" if task == "degree" else "classification")
    again = score(of_type, [find_metric(name) for name in recorded], outputs, labels)
    assert recorded
    assert again == pytest.approx(recorded, rel=1e-12)


def test_a_classification_gives_labels_with_probabilities_and_a_regression_a_value(
    opened: OpenHome, loaded: LoadedBase
) -> None:
    with opened.task("mood").applied(loaded) as mood:
        first, second = mood.predict(["the film was superb", "the meal was awful"])
    with opened.task("degree").applied(loaded) as degree:
        (value,) = degree.predict(["the film was superb"])

    assert list(first.probabilities) == list(second.probabilities) == ["0", "1"]
    for answer in (first, second):
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.label is not None
        assert answer.probability == max(answer.probabilities.values())
        assert answer.probabilities[answer.label] == answer.probability
        assert answer.value is None
    assert (value.label, value.probability, value.probabilities) == (None, None, {})
    assert isinstance(value.value, float)


def test_answers_keep_the_order_of_the_texts_whatever_the_batch(
    lab: Lab, opened: OpenHome, loaded: LoadedBase
) -> None:
    texts = texts_of(dev_rows(lab, "mood"))
    with opened.task("mood").applied(loaded) as mood:
        whole = mood.predict(texts)
        alone = [mood.predict([text])[0] for text in texts]
        small = mood.predict(texts, batch_size=5)
        assert mood.predict([]) == []

    shares = [[answer.probability for answer in found] for found in (whole, alone, small)]
    assert shares[1] == pytest.approx(shares[0], rel=1e-5)
    assert shares[2] == pytest.approx(shares[0], rel=1e-5)
    assert len(set(shares[0])) > 5


def test_the_base_comes_back_bit_for_bit_also_after_an_error(
    opened: OpenHome, loaded: LoadedBase
) -> None:
    before = bits(loaded)

    def fail() -> None:
        with opened.task("degree").applied(loaded):
            assert loaded.task == "degree"
            assert any(not torch.equal(a, b) for a, b in zip(before, bits(loaded), strict=True))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert loaded.task is None
    assert all(torch.equal(a, b) for a, b in zip(before, bits(loaded), strict=True))
    loaded.base.check_unchanged()


def test_one_task_is_on_at_a_time_and_answers_end_with_its_block(
    opened: OpenHome, loaded: LoadedBase
) -> None:
    with opened.task("mood").applied(loaded) as mood:
        nested = opened.task("mood", seed=1).applied(loaded)
        with pytest.raises(DiffError, match="diff of `mood` is applied"), nested:
            pass
        mood.predict(["good"])

    with opened.task("mood", seed=1).applied(loaded), pytest.raises(DiffError, match="no longer"):
        mood.predict(["good"])


def test_a_name_means_the_last_arrival_of_the_runs_own_method(ran: Ran, opened: OpenHome) -> None:
    records = arrivals_in(ran.home, task="mood", method="diff_pruning")
    by_seed = {record.seed: record for record in records}

    assert opened.task("mood").artifact.arrival == by_seed[2]
    assert opened.task("mood", seed=1).artifact.arrival == by_seed[1]
    assert opened.task("task:mood", run="served-1", seed=1).artifact.arrival == by_seed[1]
    assert opened.task(f"arrival:{by_seed[1].id}").artifact.arrival == by_seed[1]
    digest = by_seed[1].digest or ""
    assert opened.task(digest[:10]).artifact.diff.digest == digest
    assert opened.task(f"diff:{digest[:5]}").artifact.diff.digest == digest
    assert opened.tasks() == ("mood", "same", "degree")


@pytest.mark.parametrize(
    ("word", "narrowing", "error", "message"),
    [
        ("moood", {}, NotInRegistryError, "Did you mean `mood`?"),
        ("mood", {"seed": 7}, NotInRegistryError, "no finished arrival with seed 7"),
        ("mood", {"method": "lora"}, NotInRegistryError, "by `lora`"),
        ("mood", {"run": "servd-1"}, NotInRegistryError, "Did you mean `served-1`?"),
        ("arrival:999", {}, NotInRegistryError, "no arrival 999"),
        ("arrival:x", {}, UsageError, "known by its number"),
        ("arrival:1", {"seed": 1}, UsageError, "one thing already"),
        ("colour:1", {}, UsageError, "no kind `colour`"),
        ("diff:zz", {}, NotInRegistryError, "does not begin a digest"),
    ],
)
def test_a_word_that_leads_nowhere_is_refused(
    word: str,
    narrowing: dict[str, Any],
    error: type[Exception],
    message: str,
    opened: OpenHome,
) -> None:
    with pytest.raises(error, match=message):
        opened.task(word, **narrowing)


def test_a_home_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry in the home"):
        open_home(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("mood", [("a film", "a book")], "takes single texts"),
        ("same", ["a film"], "takes pairs of texts"),
        ("same", [("a film", "a book"), "a film"], "1 of 2 examples"),
        ("mood", ["good", " "], "Example 2: the text in 'text' is empty"),
        ("mood", [7], "Example 1"),
        ("same", [("a", "b", "c")], "has 3 texts"),
        ("mood", "good", "list of texts"),
    ],
)
def test_what_is_no_row_of_the_task_is_refused(
    task: str, texts: Any, message: str, opened: OpenHome, loaded: LoadedBase
) -> None:
    with opened.task(task).applied(loaded) as served, pytest.raises(DataError, match=message):
        served.predict(texts)


def test_a_damaged_file_is_refused(ran: Ran, loaded: LoadedBase, tmp_path: Path) -> None:
    opened = open_home(shutil.copytree(ran.home.path, tmp_path / "home"))
    task = opened.task("mood")
    path = task.store.path(task.artifact.diff.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(StoreError, match="altered"), task.applied(loaded):
        pass
    path.unlink()
    with pytest.raises(StoreError, match="no artifact"), task.applied(loaded):
        pass


def test_a_checkpoint_is_no_diff(opened: OpenHome, loaded: LoadedBase) -> None:
    task = opened.task("mood", method="full_finetuning")

    with pytest.raises(DiffError, match="checkpoint, not a diff"), task.applied(loaded):
        pass


def test_a_diff_that_does_not_do_what_it_did_is_refused(
    opened: OpenHome, loaded: LoadedBase
) -> None:
    task = opened.task("mood")
    assert task.artifact.arrival is not None
    details = task.artifact.arrival.details
    assert details.probe is not None
    details = replace(details, probe=replace(details.probe, n_changed=3))
    other = replace(task.artifact, arrival=replace(task.artifact.arrival, details=details))

    with (
        pytest.raises(StoreError, match="3 were recorded"),
        replace(task, artifact=other).applied(loaded),
    ):
        pass
    assert loaded.task is None


def test_a_diff_that_changes_nothing_or_holds_no_head_is_refused(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    diff = opened.task("mood").diff(loaded.base.layout)
    # Too little to change a weight that is not 0 already.
    faint = tuple(
        SparseTensor(t.shape, np.array([3]), np.array([1e-30], np.float32))
        if name.endswith("LayerNorm.weight")
        else emptied(t)
        for name, t in zip(diff.layout.names, diff.tensors, strict=True)
    )

    for changes, message in (
        ({"tensors": faint}, "changes none of its"),
        ({"head": {}}, "random head"),
        ({"task": {}}, "task description in the diff's file is invalid"),
        ({"task": DESCRIPTION | {"labels": ["a", "b", "c"]}}, "but its task has 3 outputs"),
    ):
        task = stored_again(opened, loaded, tmp_path, **changes)
        with pytest.raises(DiffError, match=message), task.applied(loaded):
            pass
    assert loaded.task is None


def emptied(tensor: SparseTensor) -> SparseTensor:
    return SparseTensor(tensor.shape, tensor.positions[:0], tensor.values[:0])


def test_answers_that_are_no_numbers_are_not_given(
    opened: OpenHome, loaded: LoadedBase, tmp_path: Path
) -> None:
    diff = opened.task("mood").diff(loaded.base.layout)
    huge = {name: np.full_like(array, 3.4e38) for name, array in diff.head.items()}
    task = stored_again(opened, loaded, tmp_path, head=huge)

    with task.applied(loaded) as served, pytest.raises(DiffError, match="NaN or infinite"):
        served.predict(["a fine film"])
