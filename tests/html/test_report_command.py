"""`report`: where it writes, what it says, and what it does where something is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from page_samples import hostile_home, parsed

from streamlab.cli import cli
from streamlab.home.folder import Home

if TYPE_CHECKING:
    from stream_samples import Ran


def report(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", "--home", str(home.path), *arguments])


def test_report_prints_the_path_in_the_homes_reports(many: Ran) -> None:
    result = report(many.home)

    path = many.home.reports / "many-1.html"
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path}\n", "")
    assert "Consistent." in path.read_text(encoding="utf-8")
    assert [p.name for p in many.home.reports.iterdir()] == ["many-1.html"]


def test_a_run_of_any_name_has_a_file_in_the_reports(many: Ran, tmp_path: Path) -> None:
    home = hostile_home(many.home, tmp_path / "home")

    result = report(home)

    assert result.exit_code == 0
    (path,) = home.reports.iterdir()
    assert result.stdout == f"{path}\n"
    assert re.fullmatch(r"[A-Za-z0-9_.-]+\.html", path.name)


def test_what_verification_finds_is_on_the_page(many: Ran, tmp_path: Path) -> None:
    home = hostile_home(many.home, tmp_path / "home")

    result = report(home, "-o", str(tmp_path / "out.html"))

    page = parsed((tmp_path / "out.html").read_text(encoding="utf-8"))
    rows = page.one(id="table-findings").cells()
    assert [row[:3] for row in rows] == [["missing", "2", "2"]]
    assert "2 problems in the home" in result.stderr
    assert "Verification found 2 problems" in page.one(id="summary").text


def test_a_page_that_cannot_be_written_leaves_the_old_one(many: Ran, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    result = report(many.home, "-o", str(tmp_path / "file" / "page.html"))

    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("run", ["nothing-1", "77"])
def test_an_unknown_run_is_one_paragraph(run: str, many: Ran, tmp_path: Path) -> None:
    result = report(many.home, run, "-o", str(tmp_path / "page.html"))

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The registry holds no run")
    assert not list(tmp_path.iterdir())


def test_the_page_costs_no_torch(many: Ran, tmp_path: Path) -> None:
    code = (
        "import sys; from streamlab.cli import cli\n"
        f"cli(['report', '--home', {str(many.home.path)!r}, '-o', {str(tmp_path / 'p.html')!r}],"
        " standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
