"""The base that processes share: the same bits in each, and no way to change another's."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stream_samples import Lab

from streamlab.base import Base, load_base
from streamlab.errors import BaseMismatchError
from streamlab.stream.executors.shared_base import (
    base_image,
    map_base,
    share_image,
    without_tensors,
)
from streamlab.stream.scenario import load_scenario


@pytest.fixture(scope="module")
def base(lab: Lab) -> Base:
    return load_base(load_scenario(lab.scenario(name="shared")).base, seed=1)


@pytest.fixture
def file(base: Base) -> Iterator[int]:
    number = share_image(base_image(base.tensors))
    yield number
    os.close(number)


def test_a_mapped_base_is_the_base(base: Base, file: int) -> None:
    mapped = map_base(file, without_tensors(base))

    mapped.check_unchanged()
    assert list(mapped.tensors) == list(base.tensors)
    for name, tensor in base.tensors.items():
        assert torch.equal(mapped.tensors[name], tensor)
        assert mapped.tensors[name].data_ptr() % 64 == 0
    assert (mapped.fingerprint, mapped.max_length) == (base.fingerprint, base.max_length)


def test_what_one_process_writes_another_does_not_see(base: Base, file: int) -> None:
    mine, other = (map_base(file, without_tensors(base)) for _ in range(2))

    next(iter(mine.tensors.values())).add_(1.0)

    with pytest.raises(BaseMismatchError, match="was changed in memory"):
        mine.check_unchanged()
    other.check_unchanged()
    map_base(file, without_tensors(base)).check_unchanged()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux seals files")
def test_nobody_can_change_the_file(file: int) -> None:
    size = os.fstat(file).st_size
    for flags in (os.O_RDWR, os.O_WRONLY):
        again = os.open(f"/proc/self/fd/{file}", flags)
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        os.close(again)
    with pytest.raises(PermissionError):
        os.truncate(file, size - 1)
    with pytest.raises(PermissionError):
        mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_WRITE)


def test_without_sealed_files_one_without_a_name_is_read(
    base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    file = share_image(base_image(base.tensors))

    map_base(file, without_tensors(base)).check_unchanged()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(file, b"x")
    assert list(tmp_path.iterdir()) == []
    os.close(file)
