"""Finding the compiled step, where there is a compiler and where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streamlab.methods.kernels import native
from streamlab.methods.kernels.availability import explain_eager
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


@pytest.fixture(autouse=True)
def _uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    # The answer is remembered by whoever asks.
    monkeypatch.setattr(native, "find_library", native.find_library.__wrapped__)


@pytest.mark.parametrize("arrange", [no_compiler, broken_compiler, compiler_of_nothing])
def test_without_a_working_compiler_there_is_no_compiled_step(
    arrange: Callable[[pytest.MonkeyPatch, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    arrange(monkeypatch, tmp_path)

    assert find_native_step(1) is None


def test_a_missing_compiler_and_one_that_fails_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = torch.device("cpu")
    broken_compiler(monkeypatch, tmp_path)
    broken = explain_eager("auto", cpu)
    no_compiler(monkeypatch, tmp_path)
    missing = explain_eager("auto", cpu)

    assert broken == f"`{tmp_path / 'broken'}` cannot build the compiled training step"
    assert missing == "There is no C compiler (`cc`, `gcc`, or the value of `CC`)"
    assert explain_eager("eager", cpu) == ""  # as asked for
