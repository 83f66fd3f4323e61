"""`streamlab keygen`: a pair that signs, and a private key that nobody else reads."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamlab.cli import cli
from streamlab.stream.submission import is_signed_by, sign


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keygen", *arguments])


def test_the_private_key_in_the_file_signs_for_the_public_one_that_is_printed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "press.key"

    result = call("--out", str(path))

    private, public = path.read_text().strip(), result.stdout.strip()
    assert (result.exit_code, result.stdout) == (0, public + "\n")
    assert is_signed_by(b"m", sign(b"m", private), public)
    assert private not in result.output
    assert result.stderr == f"Wrote the private key to {path}. Keep it secret.\n"


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    call("--out", str(tmp_path / "press.key"))

    assert stat.S_IMODE((tmp_path / "press.key").stat().st_mode) == 0o600


def test_the_file_is_provider_key_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert call().exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["provider.key"]


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "press.key"
    path.write_text("mine")

    result = call("--out", str(path))

    assert (result.exit_code, result.stdout, path.read_text()) == (2, "", "mine")
    assert result.stderr == (
        f"Error: {path} already exists, and a lost private key cannot be recreated. Give another "
        "name with `--out`.\n"
    )


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "press.key").symlink_to(tmp_path / "elsewhere")

    assert call("--out", str(tmp_path / "press.key")).exit_code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "press.key"

    result = call("--out", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {path} cannot be written: File exists. No partial file was left. Make its "
        "folder writable, or choose another location.\n"
    )
