"""Scores are those of the stored bytes: taken again here by other means, from the file alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from stream_samples import Ran, scores_in

from streamlab.base import Base, load_base
from streamlab.diff.format.container import decode
from streamlab.errors import StoreError
from streamlab.home.store import FolderStore
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.inference.model import logits
from streamlab.stream.lab import Outcome
from streamlab.stream.run_context import EncodedTask, RunContext
from streamlab.stream.scenario import load_scenario


@pytest.fixture(scope="module")
def context(many: Ran) -> RunContext:
    """A base and rows loaded anew, by nothing the run left but its scenario."""
    loaded = load_scenario(many.path)
    return RunContext(loaded.scenario, load_base(loaded.scenario.base, seed=1), loaded.folder)


def by_hand(base: Base, task: EncodedTask, outcome: Outcome, path: Path) -> NDArray[np.float32]:
    """Add the file's numbers to a base under a head of another seed, and ask the model."""
    model = base.build(n_outputs=task.data.n_outputs, seed=987)
    parameters = dict(model.named_parameters())
    assert outcome.diff is not None
    with torch.no_grad():
        if outcome.diff.kind == "checkpoint":
            model.load_state_dict(load_file(path))
        else:
            diff = decode(path.read_bytes(), base.layout)
            for name, tensor in zip(base.layout.names, diff.tensors, strict=True):
                flat = parameters[base.full_names[name]].view(-1)
                flat[torch.from_numpy(tensor.positions.copy())] += torch.from_numpy(
                    tensor.values.copy()
                )
            for name, values in diff.head.items():
                parameters[name].copy_(torch.from_numpy(values.copy()))
    return logits(model, task.dev)


def test_the_stored_file_on_a_fresh_base_gives_the_served_logits_and_the_recorded_score(
    many: Ran, context: RunContext
) -> None:
    store = FolderStore(many.home.store)
    recorded = {
        score.arrival_id: score.value
        for score in scores_in(many.home)
        if score.split == "dev" and score.is_primary
    }
    for outcome in many.outcomes:
        digest, diff = outcome.record.digest, outcome.diff
        assert digest is not None
        assert diff is not None
        task = context.encoded(outcome.arrival)

        found = by_hand(context.base, task, outcome, store.path(digest))

        training = context.scenario.tasks[outcome.arrival.task].training
        artifact = read_artifact(diff.kind, store.get(digest), context.base, digest=digest)
        with artifact.applied_to(context.classifiers.clean(task, training)) as served:
            assert np.array_equal(found, logits(served.model, task.dev))
        labels = np.array([row.label for row in task.data.dev])
        if outcome.arrival.task == "degree":
            value = float(np.corrcoef(found[:, 0], labels)[0, 1])
            assert recorded[outcome.record.id] == pytest.approx(value, abs=1e-6)
        else:
            value = float((found.argmax(axis=1) == labels).mean())
            assert recorded[outcome.record.id] == value


def test_beside_each_score_stands_that_of_the_training_examples_majority(
    many: Ran, context: RunContext
) -> None:
    arrivals = {outcome.record.id: outcome.arrival for outcome in many.outcomes}
    scores = [score for score in scores_in(many.home) if score.metric == "accuracy"]
    assert {score.split for score in scores} == {"dev", "validation"}
    for score in scores:
        task = context.encoded(arrivals[score.arrival_id]).data
        most = Counter(example.label for example in task.train).most_common(1)[0][0]
        examples = task.dev if score.split == "dev" else task.validation

        shares = [example.label == most for example in examples]

        assert score.majority == pytest.approx(sum(shares) / len(shares))


def test_the_confusion_matrix_of_an_arrival_counts_its_answers_on_dev(
    many: Ran, context: RunContext
) -> None:
    for outcome in many.outcomes:
        task, confusion = context.encoded(outcome.arrival).data, outcome.record.details.confusion
        if not task.labels:
            assert confusion is None
            continue
        assert confusion is not None
        value = next(
            score.value
            for score in outcome.scores
            if (score.metric, score.split) == ("accuracy", "dev")
        )

        n_right = sum(row[place] for place, row in enumerate(confusion.counts))

        assert confusion.labels == task.labels
        by_class = Counter(example.label for example in task.dev)
        assert [sum(row) for row in confusion.counts] == [by_class[n] for n in range(len(by_class))]
        assert n_right / len(task.dev) == pytest.approx(value)


def test_a_row_gets_the_same_logits_alone_as_in_a_batch(many: Ran, context: RunContext) -> None:
    outcome = many.outcomes[0]
    task = context.encoded(outcome.arrival)
    model = context.base.build(n_outputs=2, seed=1)

    together = logits(model, task.dev)

    for place in range(0, len(together), 7):
        alone = dataclasses.replace(
            task.dev,
            token_ids=task.dev.token_ids[place : place + 1],
            token_types=task.dev.token_types and task.dev.token_types[place : place + 1],
            labels=task.dev.labels[place : place + 1],
        )
        assert logits(model, alone)[0] == pytest.approx(together[place], abs=1e-5)


def test_bytes_that_are_not_those_of_the_digest_are_not_served(
    many: Ran, context: RunContext
) -> None:
    outcome = many.outcomes[0]
    assert outcome.diff is not None
    store = FolderStore(many.home.store)
    data = bytearray(store.get(outcome.diff.digest))
    data[-1] ^= 1
    digest = outcome.diff.digest

    with pytest.raises(StoreError, match="does not have its digest"):
        read_artifact(outcome.diff.kind, bytes(data), context.base, digest=digest)


def test_a_diff_comes_off_again_bit_for_bit_after_serving(many: Ran, context: RunContext) -> None:
    outcome = many.outcomes[0]
    assert outcome.diff is not None
    data = FolderStore(many.home.store).get(outcome.diff.digest)
    model = context.base.build(n_outputs=2, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with read_artifact("diff", data, context.base).applied_to(model) as served:
        changed = [n for n, t in served.model.state_dict().items() if not torch.equal(t, before[n])]

    assert changed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
