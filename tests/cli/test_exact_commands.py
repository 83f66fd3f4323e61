"""`diff` to an exact difference, `apply` and `chain`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exact_samples import contents, write_checkpoint

from streamlab.cli import cli


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def steps(tmp_path: Path) -> list[Path]:
    return [write_checkpoint(tmp_path / f"step-{n}", step=n) for n in range(3)]


def test_differences_are_written_and_applied_in_order(steps: list[Path], tmp_path: Path) -> None:
    files = [tmp_path / "1.slexact", tmp_path / "2.slexact"]
    for before, after, path in zip(steps, steps[1:], files, strict=False):
        result = call("diff", before, after, "-o", path)
        assert result.exit_code == 0, result.stderr
        assert "weights change" in result.stderr

    applied = call("apply", steps[0], *files, "--to", tmp_path / "result")

    assert (applied.exit_code, applied.stdout) == (0, f"{tmp_path / 'result'}\n")
    assert contents(tmp_path / "result") == contents(steps[2])


@pytest.mark.parametrize("option", [["--add"], ["--values", "bf16"]])
def test_an_exact_difference_has_no_options(
    option: list[str], steps: list[Path], tmp_path: Path
) -> None:
    result = call("diff", *steps[:2], "-o", tmp_path / "x.slexact", *option)

    assert result.exit_code == 2
    assert "have no options" in " ".join(result.stderr.split())


def test_an_exact_difference_is_between_checkpoints_on_this_disk(tmp_path: Path) -> None:
    result = call("diff", "some/model", "other/model", "-o", tmp_path / "x.slexact")

    assert result.exit_code == 2
    assert "There is no folder or file some/model" in result.stderr


def test_a_chain_is_kept_verified_and_restored(steps: list[Path], tmp_path: Path) -> None:
    chain = tmp_path / "chain"
    for step in steps:
        assert call("chain", "add", chain, step).exit_code == 0

    verified = call("chain", "verify", chain, "--format", "csv")
    restored = call("chain", "restore", chain, 2, "--to", tmp_path / "back")
    squashed = call("chain", "squash", chain, 0, 2, "-o", tmp_path / "both.slexact")

    assert [line.split(",")[1] for line in verified.stdout.splitlines()[1:]] == [
        "whole", "difference", "difference",
    ]  # fmt: skip
    assert (verified.exit_code, restored.exit_code, squashed.exit_code) == (0, 0, 0)
    assert contents(tmp_path / "back") == contents(steps[2])


def test_a_chain_that_is_damaged_is_a_finding(steps: list[Path], tmp_path: Path) -> None:
    for step in steps:
        call("chain", "add", tmp_path / "chain", step)
    (tmp_path / "chain/00001.slexact").write_bytes(b"x")

    result = call("chain", "verify", tmp_path / "chain")

    assert result.exit_code == 1
    assert "format-name" in " ".join(result.stdout.split())


def test_a_folder_without_a_chain_is_told(tmp_path: Path) -> None:
    result = call("chain", "verify", tmp_path)

    assert result.exit_code == 2
    assert "There is no chain" in result.stderr


def test_the_commands_and_the_snippet_of_the_page_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (20, 21, 22):
        write_checkpoint(tmp_path / f"step-{step}", step=step - 20)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/guides/exact.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(streamlab .*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    for line in lines:
        result = call(*line.split()[1:])
        assert result.exit_code == 0, (line, result.stderr)
    Path("step-21-again").rename("restored")
    exec(snippet, {})  # noqa: S102 - our own page

    assert contents(Path("two-later")) == contents(Path("step-22"))
    patched, step = (contents(Path(name))["model.safetensors"] for name in ("patched", "step-21"))
    assert patched == step
    assert (
        contents(Path("restored")) == contents(Path("step-21-again")) == contents(Path("step-21"))
    )
    assert capsys.readouterr().out.count("\n") == 2
