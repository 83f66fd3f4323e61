"""The proofs hold for the stream as it is, and a planted leak breaks them."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from stream_samples import Lab, only
from transformers import PreTrainedModel

from streamlab.errors import BaseMismatchError
from streamlab.methods.api import TrainingSettings
from streamlab.seeds import derived_seed
from streamlab.stream import scoring
from streamlab.stream.invariants import check_isolation, check_order, shuffled
from streamlab.stream.run_context import Classifiers, EncodedTask
from streamlab.stream.scenario import LoadedScenario, load_scenario
from streamlab.stream.schedule import Arrival, arrivals


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> LoadedScenario:
    return load_scenario(lab.scenario(name="proofs", **only("degree", "mood")))


def test_the_order_of_arrivals_changes_no_file(loaded: LoadedScenario, tmp_path: Path) -> None:
    claims = list(check_order(loaded, tmp_path, n_shuffles=2, seed=1))

    assert [claim.holds for claim in claims] == [True] * 4
    assert claims[0].subject == "order 1: degree@1 by diff_pruning, seed 1"


def test_a_seed_taken_from_the_place_breaks_the_proof_of_order(
    loaded: LoadedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_place = property(lambda arrival: derived_seed("training", arrival.sequence))
    monkeypatch.setattr(Arrival, "training_seed", by_place)

    claims = list(check_order(loaded, tmp_path, n_shuffles=3, seed=1))

    assert not all(claim.holds for claim in claims)


def test_no_arrival_moves_the_base_or_an_earlier_score(
    loaded: LoadedScenario, tmp_path: Path
) -> None:
    claims = list(check_isolation(loaded, tmp_path, clock=time.time))

    assert all(claim.holds for claim in claims)
    subjects = [claim.subject for claim in claims]
    assert subjects[0] == "base after degree@1 by diff_pruning, seed 1"
    assert subjects[2:] == ["degree@1 by diff_pruning, seed 1: pearson on dev"]


def test_a_model_left_dirty_breaks_the_proof_of_isolation(
    loaded: LoadedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses: list[str] = []

    clean = Classifiers.clean

    def dirty(
        own: Classifiers, task: EncodedTask, training: TrainingSettings, **more: Any
    ) -> PreTrainedModel:
        model = clean(own, task, training, **more)
        uses.append(task.data.name)
        with torch.no_grad():  # what the uses before this one left behind
            for name, parameter in model.named_parameters():
                if name.endswith("word_embeddings.weight"):
                    parameter.add_(torch.randn_like(parameter), alpha=float(len(uses) - 1))
        return model

    monkeypatch.setattr(Classifiers, "clean", dirty)
    monkeypatch.setattr(scoring, "check_probe", lambda *_, **__: None)  # which would stop the run

    claims = list(check_isolation(loaded, tmp_path, clock=time.time))

    assert [claim.subject for claim in claims if not claim.holds] == [
        "degree@1 by diff_pruning, seed 1: pearson on dev"
    ]


def test_a_base_that_was_written_to_breaks_the_proof_of_isolation(
    loaded: LoadedScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = Classifiers.clean

    def writes(
        own: Classifiers, task: EncodedTask, training: TrainingSettings, **more: Any
    ) -> PreTrainedModel:
        model = clean(own, task, training, **more)
        own._base.tensors[own._base.layout.names[0]].view(-1)[0] += 1.0
        return model

    monkeypatch.setattr(Classifiers, "clean", writes)
    claims = check_isolation(loaded, tmp_path, clock=time.time)

    assert not next(claims).holds
    with pytest.raises(BaseMismatchError):  # and nothing more is learnt on it
        next(claims)


def test_shuffled_keeps_the_baselines_of_an_arrival_together(lab: Lab) -> None:
    tree = lab.tree(name="baselines", baselines=["head_only"])
    stream = arrivals(load_scenario(lab.write(tree, file="baselines.yaml")).scenario)

    moved = shuffled(stream, draw=random.Random(3))  # noqa: S311 - orders, not secrets

    assert [arrival.task for arrival in moved] != [arrival.task for arrival in stream]
    assert [arrival.sequence for arrival in moved] == [0, 0, 1, 1, 2, 2]
    assert {arrival.identity for arrival in moved} == {arrival.identity for arrival in stream}
    assert len({(arrival.sequence, arrival.task) for arrival in moved}) == 3


def test_another_order_has_other_arrivals_at_the_same_times(lab: Lab) -> None:
    tree = lab.tree(name="timed", **only("mood", "degree", "same"))
    for provider in tree["providers"].values():
        provider["arrivals"] = {"process": "poisson", "rate_per_day": 1}
        provider["n_arrivals"] = 2
    stream = arrivals(load_scenario(lab.write(tree)).scenario)

    other = shuffled(stream, draw=random.Random(3))  # noqa: S311 - an order, not a secret

    assert [(a.sequence, a.arrived_us) for a in other] == [
        (a.sequence, a.arrived_us) for a in stream
    ]
    assert [a.identity for a in other] != [a.identity for a in stream]
    assert {a.identity for a in other} == {a.identity for a in stream}
