"""The same scenario, seed and libraries give the same bytes, whatever runs before or beside."""

from __future__ import annotations

from pathlib import Path

from stream_samples import Elsewhere, Lab, Ran, arrivals_in, carry_out, only, stored


def test_another_process_gives_the_same_files(plain: Ran, elsewhere: Elsewhere) -> None:
    assert len(stored(plain.home)) == 3
    assert stored(elsewhere.same) == stored(plain.home)
    digests = [row.digest for row in arrivals_in(elsewhere.same)]
    assert digests == [row.digest for row in arrivals_in(plain.home)]


def test_the_tasks_in_another_order_give_the_same_files(plain: Ran, elsewhere: Elsewhere) -> None:
    rows = arrivals_in(elsewhere.shuffled)

    assert [row.task for row in rows] == ["degree", "mood", "same"]
    assert stored(elsewhere.shuffled) == stored(plain.home)


def test_a_task_alone_gives_the_file_it_gives_among_others(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    alone = carry_out(lab.scenario(name="alone", **only("degree")), tmp_path / "home")

    assert stored(alone.home).items() < stored(plain.home).items()


def test_another_provider_of_the_same_rows_gives_another_file(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    tree = lab.tree(name="other", **only("mood"))
    tree["providers"] = {"somebody_else": {"tasks": ["mood"]}}

    other = carry_out(lab.write(tree), tmp_path / "home")

    assert len(stored(other.home)) == 1
    assert not stored(other.home).keys() & stored(plain.home).keys()
