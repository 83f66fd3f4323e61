"""Pruned models through whole runs: admitted, stored, scored, and put on a fresh base again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from stream_samples import Ran, carry_out, make_lab, only, scores_in

from streamlab.base import load_base
from streamlab.diff.format.container import decode
from streamlab.home.store import FolderStore
from streamlab.inference.model import logits
from streamlab.library.home import open_home
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario

OPEN = {"max_density": 1.0, "max_norm": 1000.0}


def scenario_of(folder: Any, *, admission: dict[str, float] = OPEN, keep: float = 0.15) -> Any:
    """Write a scenario whose method is movement pruning, with magnitude pruning beside it."""
    lab = make_lab(folder)
    tree = lab.tree(**only("mood", "degree"), admission=admission)
    tree["defaults"]["method"] = {"name": "pruned_model", "keep": keep}
    tree["baselines"] = [{"name": "pruned_model", "criterion": "magnitude", "keep": keep}]
    return lab.write(tree)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    path = scenario_of(tmp_path_factory.mktemp("lab"))
    return carry_out(path, tmp_path_factory.mktemp("pruned") / "home")


def test_pruned_models_are_admitted_and_stored_as_diffs(ran: Ran) -> None:
    layout = load_base(load_scenario(ran.path).scenario.base, seed=1).layout

    assert [outcome.record.status for outcome in ran.outcomes] == ["finished"] * 4
    for outcome in ran.outcomes:
        assert outcome.diff is not None
        assert outcome.diff.kind == "diff"
        assert outcome.diff.n_entries == outcome.arrival.method.expected_entries(layout)


def test_the_stored_file_on_a_fresh_base_gives_the_scored_logits_bit_for_bit(ran: Ran) -> None:
    loaded = load_scenario(ran.path)
    base = load_base(loaded.scenario.base, seed=1)
    context = RunContext(loaded.scenario, base, loaded.folder)
    store = FolderStore(ran.home.store)
    recorded = {
        score.arrival_id: score.value
        for score in scores_in(ran.home)
        if score.split == "dev" and score.is_primary
    }
    for outcome in ran.outcomes:
        task = context.encoded(outcome.arrival)
        model = base.build(n_outputs=task.data.n_outputs, seed=987)
        parameters = dict(model.named_parameters())
        diff = decode(store.get(str(outcome.record.digest)), base.layout)
        assert diff.mode == "prune"
        n_zeros = 0
        with torch.no_grad():
            for name, kept in zip(base.layout.names, diff.tensors, strict=True):
                flat = parameters[base.full_names[name]].view(-1)
                at = torch.from_numpy(kept.positions.copy())
                new = flat[at] + torch.from_numpy(kept.values.copy())
                if len(kept):
                    flat.zero_()
                    n_zeros += len(flat) - len(kept)
                flat[at] = new
            for name, values in diff.head.items():
                parameters[name].copy_(torch.from_numpy(values.copy()))

        found = logits(model, task.dev)

        assert n_zeros > diff.n_entries
        probe = outcome.record.details.probe
        assert probe is not None
        assert probe.n_changed > diff.n_entries
        assert probe.sha256 == hashlib.sha256(found.tobytes()).hexdigest()
        value = task.data.score(found, task.dev.labels)[task.data.metrics[0].name]
        assert recorded[outcome.record.id] == value


def test_a_home_serves_a_pruned_model_and_takes_it_off_again(ran: Ran) -> None:
    home, texts = open_home(ran.home.path), ["the film was good", "the meal was awful"]
    loaded = home.load_base()
    before = [p.detach().clone() for p in loaded.model.parameters()]

    with home.task("degree").applied(loaded) as served:
        first = served.predict(texts)
    with home.task("mood").applied(loaded) as served:
        assert len(served.predict(texts)) == 2
    with home.task("degree").applied(loaded) as served:
        again = served.predict(texts)

    assert again == first
    after = loaded.model.parameters()
    assert all(torch.equal(old, now) for old, now in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("admission", "rule"), [({"max_density": 0.05}, "entries"), ({"max_density": 1.0}, "norm")]
)
def test_a_dense_model_is_refused_by_the_bounds_of_sparse_ones(
    tmp_path: Any, admission: dict[str, float], rule: str
) -> None:
    path = scenario_of(tmp_path, admission={**admission, "max_norm": 1.0})

    outcomes = carry_out(path, tmp_path / "home").outcomes

    assert {o.record.rule for o in outcomes if o.arrival.method.label == "movement_pruning"} == {
        rule
    }


def test_a_repeated_training_stores_the_same_bytes(ran: Ran, tmp_path: Any) -> None:
    again = carry_out(ran.path, tmp_path / "home")

    assert [o.record.digest for o in again.outcomes] == [o.record.digest for o in ran.outcomes]
    assert np.unique([o.record.digest for o in again.outcomes]).size == 4
