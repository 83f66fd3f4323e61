"""`target_bytes`: the whole file fits, whatever the mask and the types, and uses its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stream_samples import Lab, Ran, carry_out, make_lab, only, reading

from streamlab.base import BaseSettings, load_base
from streamlab.diff.format.container import open_diff
from streamlab.diff.rules import SeededCounts
from streamlab.errors import ConfigError
from streamlab.home.store import FolderStore
from streamlab.stream.scenario import load_scenario
from streamlab.views.pages import find_page

# The share of the target that a file leaves at most unused, for a base of a few thousand entries.
SEEDED, RANKED, STORED = 0.05, 0.05, 0.35
FINETUNED = {"name": "change", "fixed_mask_share": 0.5}
MASKS: dict[str, tuple[dict[str, Any], float]] = {
    "random": ({"mask": "random"}, SEEDED),
    "shared": ({"mask": {"name": "shared", "moves": 2}}, SEEDED),
    "rows": ({"mask": {"name": "rows", "share": 0.5, "by": FINETUNED}}, SEEDED),
    "counts": ({"mask": {"name": "counts", "per": "tensors", "by": FINETUNED}}, SEEDED),
    "row counts": ({"mask": {"name": "counts", "per": "rows", "by": FINETUNED}}, SEEDED),
    "groups": ({"mask": {"name": "groups", "per": "rows", "by": FINETUNED}}, SEEDED),
    "column groups": ({"mask": {"name": "groups", "per": "columns", "by": FINETUNED}}, STORED),
    "candidates": ({"mask": "candidates"}, 0.2),
    "change": ({"mask": FINETUNED}, RANKED),
    "magnitude": ({"mask": "magnitude"}, STORED),
    "non_adaptive": ({"name": "non_adaptive"}, RANKED),
    "diff_pruning": ({"name": "diff_pruning"}, RANKED),
}
TARGET = 600
HEAD = {"head": "int4"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


def run_one(lab: Lab, home: Any, method: dict[str, Any], **more: Any) -> Ran:
    tree = lab.tree(name="sized", **only("mood"), **more)
    tree["admission"] = {"max_density": 1}
    tree["defaults"]["method"] = {"name": "fixed_mask", "target_bytes": TARGET, **method}
    return carry_out(lab.write(tree), home)


def bytes_of(ran: Ran) -> int:
    (outcome,) = ran.outcomes
    assert outcome.diff is not None, outcome.record.reason
    return outcome.diff.file_bytes


@pytest.mark.parametrize("name", MASKS)
def test_a_file_of_every_mask_fits_and_uses_its_bytes(name: str, lab: Lab, tmp_path: Any) -> None:
    method, slack = MASKS[name]
    ran = run_one(lab, tmp_path / "home", method)

    assert (1 - slack) * TARGET <= bytes_of(ran) <= TARGET


@pytest.mark.parametrize("value_type", ["sign", "ternary", "int2", "int4"])
def test_a_file_of_every_trained_type_fits_and_uses_its_bytes(
    value_type: str, lab: Lab, tmp_path: Any
) -> None:
    method = {"mask": "random", "quantize": {"type": value_type, **HEAD}}
    ran = run_one(lab, tmp_path / "home", method)

    (outcome,) = ran.outcomes
    assert outcome.diff is not None
    assert outcome.diff.value_type == value_type
    assert (1 - SEEDED) * TARGET <= bytes_of(ran) <= TARGET


@pytest.mark.parametrize("value_type", ["int8", "fp16", "bf16", "fp32"])
def test_a_file_of_every_rounded_type_fits(value_type: str, lab: Lab, tmp_path: Any) -> None:
    storage = {"values": value_type, "head": "int4"}
    ran = run_one(lab, tmp_path / "home", {}, storage=storage)

    assert 0.7 * TARGET <= bytes_of(ran) <= TARGET


def test_counts_keep_their_proportions_in_a_smaller_rule() -> None:
    rule = SeededCounts(3, np.array([40, 0, 20, 5]))

    found = [rule.resized(k) for k in (65, 13, 1)]

    assert [one.counts.tolist() for one in found if isinstance(one, SeededCounts)] == [
        [40, 0, 20, 5], [8, 0, 4, 1], [1, 0, 0, 0],
    ]  # fmt: skip
    assert rule.resized(66) is None


def test_what_was_chosen_is_recorded_and_shown(lab: Lab, tmp_path: Any) -> None:
    ran = run_one(lab, tmp_path / "home", {})
    (outcome,) = ran.outcomes

    layout = load_base(BaseSettings(model=str(lab.base)), seed=1).layout
    details = outcome.record.details.reported.training
    assert outcome.diff is not None
    assert {name: details[name] for name in ("target_bytes", "value_type", "head_type")} == {
        "target_bytes": TARGET, "value_type": "sign", "head_type": "int4",
    }  # fmt: skip
    assert details["density"] == outcome.diff.n_entries / layout.n_gated
    with reading(ran.home) as registry:
        page = find_page(registry, f"arrival:{outcome.record.id}").tree()
    shown = str(page["details"])
    assert all(name in shown for name in ("target_bytes", "value_type", "head_type"))


def test_a_larger_file_has_values_of_four_bits(lab: Lab, tmp_path: Any) -> None:
    ran = run_one(lab, tmp_path / "home", {"target_bytes": "40 kB"})

    (outcome,) = ran.outcomes
    assert outcome.diff is not None
    file = open_diff(FolderStore(ran.home.store).get(outcome.diff.digest))
    assert (file.header.value_type, bytes_of(ran) <= 40_000) == ("int4", True)


def test_a_target_that_nothing_fits_names_the_smallest_file(lab: Lab, tmp_path: Any) -> None:
    ran = run_one(lab, tmp_path / "home", {"target_bytes": 100})

    (outcome,) = ran.outcomes
    assert outcome.diff is None
    assert "`target_bytes` is 100 B, and the smallest file of `mood`" in str(outcome.record.reason)


def test_whole_tensors_that_do_not_fit_are_refused(lab: Lab, tmp_path: Any) -> None:
    mask = {"name": "tensors", "tensors": "matrices"}
    ran = run_one(lab, tmp_path / "home", {"mask": mask, "target_bytes": 300})

    assert "the smallest file of `mood`" in str(ran.outcomes[0].record.reason)


@pytest.mark.parametrize("method", ["fixed_mask", "diff_pruning", "non_adaptive"])
def test_a_density_and_a_size_exclude_each_other(method: str, lab: Lab) -> None:
    tree = lab.tree(name="both", **only("mood"))
    tree["defaults"]["method"] = {"name": method, "target_density": 0.1, "target_bytes": 900}

    with pytest.raises(ConfigError, match="give either `target_density` or `target_bytes`"):
        load_scenario(lab.write(tree))


def test_a_resolved_scenario_with_a_size_is_read_again(lab: Lab) -> None:
    tree = lab.tree(name="again", **only("mood"))
    tree["defaults"]["method"] = {"name": "fixed_mask", "target_bytes": "2 kB"}
    loaded = load_scenario(lab.write(tree))

    method = loaded.scenario.defaults.method

    assert type(method).model_validate(method.model_dump(mode="json")) == method
