"""Finding the compiled step, where there is a compiler and where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamlab.methods.kernels import native
from streamlab.methods.kernels.native import find_native_step


def no_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(folder))


def broken_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiler = folder / "broken"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))


def compiler_of_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiler = folder / "idle"
    compiler.write_text("#!/bin/sh\nexit 0\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))


@pytest.mark.parametrize("arrange", [no_compiler, broken_compiler, compiler_of_nothing])
def test_without_a_working_compiler_there_is_no_compiled_step(
    arrange: Callable[[pytest.MonkeyPatch, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    uncached = native.find_library.__wrapped__  # the answer is remembered from then on
    monkeypatch.setattr(native, "find_library", uncached)
    arrange(monkeypatch, tmp_path)

    assert find_native_step(1) is None
