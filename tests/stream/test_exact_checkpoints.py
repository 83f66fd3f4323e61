"""Whole models that are stored as their exact difference from the base."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from stream_samples import Ran, carry_out, make_lab, only, reading, scores_in

from streamlab.base import load_base
from streamlab.errors import BaseMismatchError, DiffError
from streamlab.exact.change_file import MAGIC
from streamlab.figures.storage import storage_series
from streamlab.home.store import FolderStore
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.registry.records import DiffRecord
from streamlab.stream.scenario import load_scenario


@dataclass(frozen=True)
class Stored:
    ran: Ran
    diff: DiffRecord
    data: bytes


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """Full finetuning of one task, stored either way."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    found = {}
    for way in ("whole", "difference"):
        tree = {"storage": {"checkpoints": way}, **only("mood")}
        path = lab.scenario(
            defaults={**lab.tree()["defaults"], "method": "full_finetuning"}, **tree
        )
        ran = carry_out(path, tmp_path_factory.mktemp(way) / "home")
        (outcome,) = ran.outcomes
        assert outcome.diff is not None
        data = FolderStore(ran.home.store).get(outcome.diff.digest)
        found[way] = Stored(ran, outcome.diff, data)
    return found


def test_both_are_the_same_model_with_the_same_scores(stored: dict[str, Stored]) -> None:
    whole, difference = stored["whole"], stored["difference"]

    scores = [[s.value for s in scores_in(one.ran.home)] for one in (whole, difference)]

    assert scores[0] == scores[1] != []
    assert difference.data.startswith(MAGIC)
    assert not whole.data.startswith(MAGIC)


def test_a_difference_is_smaller_and_names_the_bytes_of_the_whole(
    stored: dict[str, Stored],
) -> None:
    whole, difference = stored["whole"].diff, stored["difference"].diff

    assert difference.file_bytes == len(stored["difference"].data) < 0.8 * whole.file_bytes
    assert difference.full_checkpoint_bytes == whole.full_checkpoint_bytes == whole.file_bytes
    assert (difference.kind, difference.n_entries) == (whole.kind, whole.n_entries)


def test_its_bytes_by_part_add_up(stored: dict[str, Stored]) -> None:
    diff = stored["difference"].diff

    parts = (diff.positions_bytes, diff.values_bytes, diff.head_bytes, diff.metadata_bytes)

    assert sum(parts) == diff.file_bytes
    assert all(part > 0 for part in parts[1:])


def test_a_damaged_difference_and_one_of_another_base_are_refused(
    stored: dict[str, Stored],
) -> None:
    one = stored["difference"]
    base = load_base(load_scenario(one.ran.path).scenario.base, seed=1)
    damaged = bytearray(one.data)
    damaged[-1] ^= 1
    digest = hashlib.sha256(damaged[:8] + damaged[40:]).digest()

    with pytest.raises(DiffError, match="content-digest"):
        read_artifact("checkpoint", bytes(damaged), base)
    with pytest.raises((DiffError, BaseMismatchError)):
        read_artifact("checkpoint", bytes(damaged[:8] + digest + damaged[40:]), base)


def test_the_figure_of_storage_has_a_line_for_differences_of_a_baseline(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    path = lab.scenario(
        defaults={**lab.tree()["defaults"], "method": "head_only"},
        baselines=["full_finetuning"],
        storage={"checkpoints": "difference"},
        **only("mood"),
    )
    ran = carry_out(path, tmp_path / "home")
    with reading(ran.home) as registry:
        series = storage_series(registry, "latest")

    difference = ran.outcomes[1].diff
    assert difference is not None
    assert [row.difference_bytes for row in series.rows] == [
        series.base.file_bytes,
        series.base.file_bytes + difference.file_bytes,
    ]
