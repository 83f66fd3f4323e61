"""Patches of positions and values, as trainers and inference servers exchange them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exact_samples import write_checkpoint
from safetensors.numpy import load_file, save_file

from streamlab.errors import DiffError, DiffFormatError
from streamlab.exact.patch_file import apply_patch, write_patch


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tuned", step=1)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_patch_turns_one_checkpoint_into_the_other(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    written = write_patch(base, tuned, tmp_path / "patch.safetensors")

    applied = apply_patch(base, tmp_path / "patch.safetensors", tmp_path / "result")

    assert written == applied > 0
    assert weights(tmp_path / "result") == weights(tuned)


def test_a_patch_is_positions_and_values_as_the_library_reads_them(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    write_patch(base, tuned, tmp_path / "patch.safetensors")

    found = load_file(tmp_path / "patch.safetensors")

    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for name, old in before.items():
        positions, values = found[f"{name}.idx"], found[f"{name}.val"]
        patched = old.copy()
        patched.reshape(-1)[positions] = values
        assert (positions.dtype, values.dtype) == (np.int32, old.dtype)
        assert patched.tobytes() == after[name].tobytes()


def test_a_patch_that_somebody_else_wrote_is_applied(base: Path, tmp_path: Path) -> None:
    patch = {
        "layer.bias.idx": np.array([3, 9], np.int32),
        "layer.bias.val": np.array([1.5, -2.0], np.float32),
    }
    save_file(patch, tmp_path / "patch.safetensors", metadata={"encoding": "raw"})

    apply_patch(base, tmp_path / "patch.safetensors", tmp_path / "result")

    bias = load_file(tmp_path / "result" / "model.safetensors")["layer.bias"]
    assert np.flatnonzero(bias).tolist() == [3, 9]
    assert bias[[3, 9]].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("patch", "rule"),
    [
        ({"idx": [3, 3], "val": [1, 2]}, "patch-position"),
        ({"idx": [9, 3], "val": [1, 2]}, "patch-position"),
        ({"idx": [-1], "val": [1]}, "patch-position"),
        ({"idx": [16], "val": [1]}, "patch-position"),
        ({"idx": [3], "val": [1, 2]}, "patch-tensor"),
        ({"idx": [3]}, "patch-tensor"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_and_leaves_nothing(
    patch: dict[str, list[int]], rule: str, base: Path, tmp_path: Path
) -> None:
    kinds = {"idx": np.int32, "val": np.float32}
    tensors = {f"layer.bias.{end}": np.array(found, kinds[end]) for end, found in patch.items()}
    save_file(tensors, tmp_path / "patch.safetensors")

    with pytest.raises(DiffFormatError) as caught:
        apply_patch(base, tmp_path / "patch.safetensors", tmp_path / "result")

    assert caught.value.rule == rule
    assert not (tmp_path / "result").exists()


def test_checkpoints_with_other_tensors_have_no_patch(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    path = tuned / "model.safetensors"
    save_file(load_file(path) | {"head.weight": np.ones((2, 16), np.float32)}, path)

    with pytest.raises(DiffError, match=r"`head\.weight` is not the same"):
        write_patch(base, tuned, tmp_path / "patch.safetensors")
