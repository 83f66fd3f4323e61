"""Suppositions change what they name and leave the rest; supposing what is changes nothing."""

from __future__ import annotations

import pytest
from planning_samples import BASE, made_up, model_of, nine

from streamlab.diff.entropy import even_bits_per_entry
from streamlab.errors import UsageError
from streamlab.planning.capacity import fit
from streamlab.planning.storage_model import resized
from streamlab.planning.what_if import VALUE_BITS, WhatIf, at_density, suppose, with_entries

MODEL = nine().model()


def test_supposing_nothing_changes_nothing() -> None:
    assert suppose(MODEL, BASE, WhatIf()) is MODEL


def test_supposing_what_is_measured_keeps_every_byte() -> None:
    as_it_is = WhatIf(density=0.005, base_params=BASE.n_parameters)

    supposed = suppose(MODEL, BASE, as_it_is)

    assert supposed.tasks == MODEL.tasks
    assert supposed.at(9).total == MODEL.at(9).total
    assert supposed.at(9).basis == "what if"


def test_a_density_changes_positions_by_their_entropy_and_values_by_their_number() -> None:
    before = made_up(0)

    after = at_density(before, 0.001)

    assert after.n_entries == 100
    bits = 100 * even_bits_per_entry(0.001) / (1000 * even_bits_per_entry(0.01))
    assert after.positions_bytes == round(bits * before.positions_bytes)
    assert after.values_bytes == before.values_bytes // 10
    assert (after.head_bytes, after.metadata_bytes) == (before.head_bytes, before.metadata_bytes)


def test_positions_by_a_rule_do_not_grow_with_the_density() -> None:
    before = resized(made_up(0), positions_bytes=22)

    assert at_density(before, 0.02).positions_bytes == 22
    assert at_density(before, 0.02).values_bytes == 2 * before.values_bytes


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_a_density_that_is_no_share_is_refused(density: float) -> None:
    with pytest.raises(UsageError, match=r"must be in \(0, 1\], got"):
        at_density(made_up(0), density)


def test_more_entries_take_more_bytes() -> None:
    sizes = [with_entries(made_up(0), k).file_bytes for k in range(1, 50_000, 997)]

    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)


def test_a_value_type_changes_the_values_alone() -> None:
    supposed = suppose(MODEL, BASE, WhatIf(value_type="bf16"))

    for before, after in zip(MODEL.tasks, supposed.tasks, strict=True):
        share = VALUE_BITS["bf16"] / VALUE_BITS[before.value_type]
        expected = resized(
            before, value_type="bf16", values_bytes=round(share * before.values_bytes)
        )
        assert after == expected


def test_wider_values_take_more() -> None:
    sizes = [
        suppose(MODEL, BASE, WhatIf(value_type=kind)).at(1000).total
        for kind in ("int4", "int8", "bf16", "fp32")
    ]

    assert sizes == sorted(sizes)


def test_a_larger_base_grows_all_but_the_headers() -> None:
    supposed = suppose(MODEL, BASE, WhatIf(base_params=8 * BASE.n_parameters))

    assert supposed.base == 8 * MODEL.base
    for before, after in zip(MODEL.tasks, supposed.tasks, strict=True):
        assert (after.positions_bytes, after.values_bytes) == (
            8 * before.positions_bytes,
            8 * before.values_bytes,
        )
        assert after.head_bytes == 2 * before.head_bytes  # the width is the cube root
        assert after.metadata_bytes == before.metadata_bytes
        assert after.n_entries / after.n_gated == before.n_entries / before.n_gated
        heads = before.full_checkpoint_bytes - BASE.file_bytes
        assert after.full_checkpoint_bytes == 8 * BASE.file_bytes + 2 * heads


def test_heads_are_linear_layers_on_the_bases_width() -> None:
    supposed = suppose(MODEL, BASE, WhatIf(n_classes=5))

    before, after = MODEL.tasks[5], supposed.tasks[5]  # of three classes
    assert after.n_head_entries == 5 * 385
    assert after.head_bytes == 5 * 385 * 2  # they were stored in 16 bits
    assert after.full_checkpoint_bytes - before.full_checkpoint_bytes == 4 * (5 - 3) * 385


def test_a_head_of_two_classes_is_stored_in_one_row() -> None:
    three = suppose(MODEL, BASE, WhatIf(n_classes=3)).tasks
    two = suppose(MODEL, BASE, WhatIf(n_classes=2)).tasks

    assert [task.n_head_entries for task in two] == [2 * 385] * 9
    for one, other in zip(two, three, strict=True):
        assert other.head_bytes == 3 * one.head_bytes


def test_two_classes_are_what_a_task_of_two_was_measured_with() -> None:
    assert suppose(MODEL, BASE, WhatIf(n_classes=2)).tasks[0] == MODEL.tasks[0]


@pytest.mark.parametrize("what_if", [WhatIf(density=0.01), WhatIf(value_type="int4")])
def test_checkpoints_have_no_density_and_no_value_type(what_if: WhatIf) -> None:
    model = model_of(made_up(0, kind="checkpoint", value_type="fp32"))

    with pytest.raises(UsageError, match="the run stored a checkpoint"):
        suppose(model, BASE, what_if)


def test_what_is_supposed_was_measured_for_no_task() -> None:
    as_it_is = WhatIf(density=0.005, base_params=BASE.n_parameters)
    supposed = suppose(MODEL, BASE, as_it_is)

    widths = [supposed.interval(n) for n in (1, 9, 10)]

    known = MODEL.interval(9)
    assert known is not None
    assert known.low == known.high
    assert all(found is not None and found.low < found.high for found in widths)
    one, nine_tasks, ten = (found.high - found.low for found in widths if found is not None)
    assert one < nine_tasks < ten
    fitted = fit(supposed, supposed.at(5).total)
    assert fitted.low is not None
    assert fitted.low < 5
