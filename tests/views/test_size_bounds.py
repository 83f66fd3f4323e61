from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from stream_samples import Ran, carry_out, make_lab, only

from streamlab.diff.entropy import two_part_bound, value_entropy
from streamlab.diff.format.container import decode
from streamlab.diff.layout import Layout
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry
from streamlab.views.pages import find_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.diff.format.values import ValueType


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    path = lab.scenario(name="one", **only("mood"))
    return carry_out(path, tmp_path_factory.mktemp("one") / "home")


@pytest.fixture
def registry(ran: Ran) -> Iterator[Registry]:
    with Registry.open(ran.home.registry_url, clock=time.time, read_only=True) as opened:
        yield opened


def parts(registry: Registry, word: str, store: FolderStore | None) -> dict[str, Any]:
    return {row["part"]: row for row in find_page(registry, word, store=store).tree()["parts"]}


def test_a_diffs_page_tells_how_few_bytes_its_parts_could_take(
    ran: Ran, registry: Registry
) -> None:
    diff = ran.outcomes[0].diff
    assert diff is not None
    store = FolderStore(ran.home.store)

    found = parts(registry, f"diff:{diff.digest}", store)

    base = registry.bases.list()[0]
    names, shapes = (tuple(column) for column in zip(*base.layout, strict=True))
    held = decode(store.get(diff.digest), Layout(base.fingerprint, names, shapes))
    assert found["positions"]["bound"] == round(two_part_bound(held) / 8)
    assert found["positions"]["over"] == pytest.approx(
        diff.positions_bytes / (two_part_bound(held) / 8) - 1
    )
    # Of zero order: where values repeat in runs, a code may take fewer bytes.
    value_type = cast("ValueType", diff.value_type)
    assert found["values"]["bound"] == round(value_entropy(held, value_type) / 8)
    assert found["head"]["bound"] is None


def test_a_diff_whose_file_is_gone_is_shown_without_bounds(
    ran: Ran, registry: Registry, tmp_path: Path
) -> None:
    diff = ran.outcomes[0].diff
    assert diff is not None

    found = parts(registry, f"diff:{diff.digest}", FolderStore(tmp_path))

    assert found == parts(registry, f"diff:{diff.digest}", None)
    assert "bound" not in found["positions"]


def test_other_pages_are_left_as_they_are(ran: Ran, registry: Registry) -> None:
    store = FolderStore(ran.home.store)

    assert find_page(registry, "latest", store=store) == find_page(registry, "latest")
