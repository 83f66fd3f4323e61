"""A base to serve from is the recorded one, wherever it lies, and takes no other base's diffs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file
from stream_samples import Lab

from streamlab.base import BaseSettings, load_base
from streamlab.errors import BaseMismatchError, NotInRegistryError, SourceError
from streamlab.inference.model import LoadedBase

if TYPE_CHECKING:
    from pathlib import Path

    from streamlab.library.home import OpenHome


def test_the_base_is_looked_for_where_it_lies_now_and_another_one_is_refused(
    opened: OpenHome, loaded: LoadedBase, lab: Lab, tmp_path: Path
) -> None:
    moved = shutil.copytree(lab.base, tmp_path / "moved")
    assert opened.load_base(model=str(moved)).base.fingerprint == loaded.base.fingerprint

    with pytest.raises(SourceError, match="not an existing folder"):
        opened.load_base(model=str(tmp_path / "none"))
    with pytest.raises(NotInRegistryError, match="no base"):
        opened.load_base("0" * 64)

    tensors = load_file(moved / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseMismatchError, match="is recorded"):
        opened.load_base(model=str(moved))


def test_a_diff_is_not_put_on_another_base(opened: OpenHome, loaded: LoadedBase, lab: Lab) -> None:
    shallow = LoadedBase(load_base(BaseSettings(model=str(lab.base), layers=1), seed=0))

    with pytest.raises(BaseMismatchError), opened.task("mood").applied(shallow):
        pass
    diff = opened.task("mood").diff(loaded.base.layout)
    with pytest.raises(BaseMismatchError), shallow.holding("mood", diff):
        pass
