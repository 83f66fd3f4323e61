"""The file of an exact difference: what it gives back, and what it refuses."""

from __future__ import annotations

import hashlib
import random
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from exact_samples import contents, write_checkpoint
from safetensors.numpy import load_file, save_file

from streamlab.errors import BaseMismatchError, DiffError, DiffFormatError, SourceError
from streamlab.exact.change_file import apply_change, read_change, write_change
from streamlab.hashing import canonical_json, parse_json

DIGEST, RESULT, DESCRIPTION = slice(8, 40), slice(72, 104), 108


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tuned", step=1)


@pytest.fixture
def change(tmp_path: Path, base: Path, tuned: Path) -> Path:
    write_change(base, tuned, tmp_path / "change.slexact")
    return tmp_path / "change.slexact"


def signed(data: bytes) -> bytes:
    digest = hashlib.sha256(data[: DIGEST.start] + data[DIGEST.stop :]).digest()
    return data[: DIGEST.start] + digest + data[DIGEST.stop :]


def described(data: bytes, **other: object) -> bytes:
    """Return a file whose description says something else."""
    end = DESCRIPTION + int.from_bytes(data[DESCRIPTION - 4 : DESCRIPTION], "little")
    tree = parse_json(zlib.decompress(data[DESCRIPTION:end])) | other
    text = zlib.compress(canonical_json(tree).encode(), 9)
    return signed(data[: DESCRIPTION - 4] + len(text).to_bytes(4, "little") + text + data[end:])


def test_the_files_come_back_byte_for_byte(
    base: Path, tuned: Path, change: Path, tmp_path: Path
) -> None:
    apply_change(base, change, tmp_path / "result")

    assert contents(tmp_path / "result") == contents(tuned)


@pytest.mark.parametrize(("shards_before", "shards_after"), [(1, 3), (3, 1), (2, 2)])
def test_tensors_may_be_distributed_over_other_files(
    shards_before: int, shards_after: int, tmp_path: Path
) -> None:
    before = write_checkpoint(tmp_path / "before", shards=shards_before)
    after = write_checkpoint(tmp_path / "after", step=2, shards=shards_after)
    write_change(before, after, tmp_path / "x.slexact")

    for place in (before, write_checkpoint(tmp_path / "other", shards=3)):
        shutil.rmtree(tmp_path / "result", ignore_errors=True)
        apply_change(place, tmp_path / "x.slexact", tmp_path / "result")
        assert contents(tmp_path / "result") == contents(after)


def test_a_header_that_the_library_would_not_write_comes_back_too(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    path = tuned / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip() + b" " * 64
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])

    write_change(base, tuned, tmp_path / "x.slexact")
    apply_change(base, tmp_path / "x.slexact", tmp_path / "result")

    assert contents(tmp_path / "result") == contents(tuned)


def test_single_files_are_checkpoints_too(base: Path, tuned: Path, tmp_path: Path) -> None:
    one, other = base / "model.safetensors", tuned / "model.safetensors"

    write_change(one, other, tmp_path / "x.slexact")
    apply_change(one, tmp_path / "x.slexact", tmp_path / "result")

    assert contents(tmp_path / "result") == {"model.safetensors": other.read_bytes()}


def test_new_tensors_come_with_the_file_and_missing_ones_go(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    path = tuned / "model.safetensors"
    tensors = load_file(path)
    del tensors["layer.bias"]
    save_file(tensors | {"head.weight": np.ones((2, 16), np.float32), "n": np.arange(3)}, path)

    write_change(base, tuned, tmp_path / "x.slexact")
    apply_change(base, tmp_path / "x.slexact", tmp_path / "result")

    assert contents(tmp_path / "result") == contents(tuned)


def test_a_file_beside_the_tensors_that_did_not_change_is_taken_from_the_base(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    for folder in (base, tuned):
        (folder / "tokenizer.json").write_bytes(np.random.default_rng(0).bytes(30_000))

    made = write_change(base, tuned, tmp_path / "x.slexact").change
    apply_change(base, tmp_path / "x.slexact", tmp_path / "result")
    (base / "tokenizer.json").write_text("another")

    assert made.description_bytes < 500
    assert contents(tmp_path / "result") == contents(tuned)
    with pytest.raises(BaseMismatchError, match=r"tokenizer\.json"):
        apply_change(base, tmp_path / "x.slexact", tmp_path / "again")


def test_no_change_takes_a_few_hundred_bytes(base: Path, tmp_path: Path) -> None:
    made = write_change(base, base, tmp_path / "x.slexact")
    apply_change(base, tmp_path / "x.slexact", tmp_path / "result")

    assert made.n_changed == 0
    assert made.change.base == made.change.result
    assert made.change.n_bytes < 300
    assert contents(tmp_path / "result") == contents(base)


def test_the_same_pair_gives_the_same_bytes(base: Path, tuned: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.slexact", tmp_path / "b.slexact"]

    digests = [write_change(base, tuned, path).change.digest for path in files]

    assert files[0].read_bytes() == files[1].read_bytes()
    assert digests == [hashlib.sha256(files[0].read_bytes()).hexdigest()] * 2


def test_another_base_is_refused_and_leaves_nothing(change: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", step=3)

    with pytest.raises(BaseMismatchError, match="not to"):
        apply_change(other, change, tmp_path / "result")

    assert not (tmp_path / "result").exists()
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize(
    "other", [np.zeros((50, 8), np.float32), np.zeros((50, 16), np.float16)], ids=["shape", "type"]
)
def test_other_shapes_and_types_are_refused(
    other: np.ndarray, base: Path, tuned: Path, tmp_path: Path
) -> None:
    path = tuned / "model.safetensors"
    save_file(load_file(path) | {"embedding.weight": other}, path)

    with pytest.raises(DiffError, match=r"`embedding\.weight` is F32 of shape"):
        write_change(base, tuned, tmp_path / "x.slexact")

    assert not (tmp_path / "x.slexact").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-5], "has .* bytes, and its header needs"),
        (lambda data: b"\xff" * 8 + data[8:], "is no safetensors file"),
        (lambda data: data.replace(b"F32", b"F33"), "is no safetensors file"),
        (lambda _: b"", "is no safetensors file"),
    ],
)
def test_a_damaged_checkpoint_is_told(
    damage: object, message: str, base: Path, tuned: Path, tmp_path: Path
) -> None:
    path = tuned / "model.safetensors"
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(SourceError, match=message):
        write_change(base, tuned, tmp_path / "x.slexact")


@pytest.mark.parametrize(
    ("other", "rule"),
    [
        ({"files": [{"name": "../a.safetensors", "metadata": None, "tensors": None}]}, "file-name"),
        ({"files": [{"name": "a.bin", "metadata": None, "tensors": None}]}, "file-name"),
        ({"files": [{"name": 3, "metadata": None, "tensors": None}]}, "file-name"),
        (
            {"files": [{"name": "a.safetensors", "metadata": None, "tensors": ["x"]}]},
            "description-content",
        ),
        ({"files": [{"name": "a.safetensors", "header": "!"}]}, "description-content"),
        ({"files": 3}, "description-content"),
        ({"new": {"x": ["F32", [1 << 40]]}}, "new-size"),
        ({"new": {"x": ["F32", [-1]]}}, "description-content"),
        ({"new": {"layer.bias": ["F64", [16]]}}, "tensor-kind"),
        ({"others": {"../config.json": ["0", None]}}, "file-name"),
        ({"others": {"run.sh": ["0", None]}}, "file-name"),
        ({"others": {"config.json": ["0", "e30="]}}, "description-content"),
    ],
)
def test_a_description_from_a_stranger_is_refused_by_rule(
    other: dict[str, object], rule: str, base: Path, change: Path, tmp_path: Path
) -> None:
    change.write_bytes(described(change.read_bytes(), **other))

    with pytest.raises(DiffFormatError) as caught:
        apply_change(base, change, tmp_path / "result")

    assert caught.value.rule == rule
    assert not (tmp_path / "result").exists()


def test_a_description_that_expands_without_end_is_refused(
    base: Path, change: Path, tmp_path: Path
) -> None:
    data = change.read_bytes()
    bomb = zlib.compress(bytes(100 << 20), 9)
    change.write_bytes(signed(data[:104] + len(bomb).to_bytes(4, "little") + bomb))

    with pytest.raises(DiffFormatError, match="description-json"):
        apply_change(base, change, tmp_path / "result")


def test_no_mutant_is_accepted(base: Path, change: Path, tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311 - a draw of places
    data = change.read_bytes()
    mutant, result = tmp_path / "mutant.slexact", tmp_path / "result"
    for number in range(300):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        if number % 3 == 0:
            del changed[rng.randrange(len(changed)) :]
        if number % 2:  # past the digest, to what reads the rest
            changed = bytearray(signed(bytes(changed)))
        if bytes(changed) == data:
            continue
        mutant.write_bytes(changed)
        with pytest.raises((DiffFormatError, BaseMismatchError)):
            apply_change(base, mutant, result)
        assert not result.exists()


def test_a_result_other_than_the_file_states_is_refused(
    base: Path, change: Path, tmp_path: Path
) -> None:
    data = bytearray(change.read_bytes())
    data[RESULT.start] ^= 1
    change.write_bytes(signed(bytes(data)))

    with pytest.raises(DiffFormatError) as caught:
        apply_change(base, change, tmp_path / "result")

    assert caught.value.rule == "result-fingerprint"
    assert not (tmp_path / "result").exists()


def test_a_file_says_what_it_belongs_to_without_the_base(
    base: Path, tuned: Path, change: Path, tmp_path: Path
) -> None:
    back = write_change(tuned, base, tmp_path / "back.slexact").change

    found = read_change(change)

    assert (found.base, found.result) == (back.result, back.base)
    assert found.n_bytes == change.stat().st_size
