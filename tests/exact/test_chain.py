"""Chains of exact differences: every link refuses another base, and every checkpoint comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from exact_samples import contents, write_checkpoint

from streamlab.errors import BaseMismatchError, StoreError, UsageError
from streamlab.exact.chain import Chain, apply_in_order
from streamlab.exact.change_file import apply_change, write_change


@pytest.fixture
def steps(tmp_path: Path) -> list[Path]:
    return [write_checkpoint(tmp_path / f"step-{n}", step=n) for n in range(5)]


@pytest.fixture
def chain(steps: list[Path], tmp_path: Path) -> Chain:
    made = Chain(tmp_path / "chain")
    for step in steps:
        made.add(step, whole_every=3)
    return made


def test_every_few_checkpoints_one_is_whole(chain: Chain) -> None:
    assert [link.is_whole for link in chain.links()] == [True, False, False, True, False]


def test_every_checkpoint_comes_back_byte_for_byte(
    chain: Chain, steps: list[Path], tmp_path: Path
) -> None:
    for number, step in enumerate(steps):
        chain.restore(number, tmp_path / f"back-{number}")
        assert contents(tmp_path / f"back-{number}") == contents(step)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_differences_are_applied_in_order_or_squashed_into_one(
    chain: Chain, steps: list[Path], tmp_path: Path
) -> None:
    files = [link.path for link in chain.links()[1:3]]

    apply_in_order(steps[0], files, tmp_path / "in-order")
    squashed = chain.squash(0, 2, tmp_path / "squashed.slexact")
    apply_change(steps[0], tmp_path / "squashed.slexact", tmp_path / "at-once")

    assert contents(tmp_path / "in-order") == contents(tmp_path / "at-once") == contents(steps[2])
    write_change(steps[0], steps[2], tmp_path / "direct.slexact")
    assert squashed.digest != chain.links()[1].path.name
    assert (tmp_path / "squashed.slexact").read_bytes() == (
        tmp_path / "direct.slexact"
    ).read_bytes()


@pytest.mark.parametrize("order", [[1, 0], [1], [0, 0]])
def test_a_difference_out_of_turn_is_refused(
    order: list[int], chain: Chain, steps: list[Path], tmp_path: Path
) -> None:
    files = [link.path for link in chain.links()[1:3]]

    with pytest.raises(BaseMismatchError):
        apply_in_order(steps[0], [files[number] for number in order], tmp_path / "result")

    assert not (tmp_path / "result").exists()


def test_a_good_chain_is_found_good(chain: Chain) -> None:
    assert [wrong for _, wrong in chain.verify()] == [None] * 5


def test_a_damaged_link_and_one_of_another_checkpoint_are_found(
    chain: Chain, steps: list[Path]
) -> None:
    _, first, second, _, last = chain.links()
    data = bytearray(first.path.read_bytes())
    data[-1] ^= 1
    first.path.write_bytes(bytes(data))
    write_change(steps[0], steps[4], last.path)

    wrong = {link.number: text for link, text in chain.verify() if text}

    assert set(wrong) == {1, 4}
    assert "content-digest" in wrong[1]
    assert "is before it" in wrong[4]
    assert second.number not in wrong  # nothing is known of what is before it


def test_a_gap_in_a_chain_is_told(chain: Chain) -> None:
    chain.links()[2].path.unlink()

    with pytest.raises(StoreError, match="has no checkpoint 00002"):
        chain.links()


def test_a_number_that_a_chain_lacks_is_told(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 5 checkpoints"):
        chain.restore(5, tmp_path / "result")
