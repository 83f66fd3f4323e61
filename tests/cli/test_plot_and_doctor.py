"""`plot` writes what the registry holds; `doctor` tells sound from broken; the study runs."""

from __future__ import annotations

import csv
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result
from script_samples import load_script

from streamlab.cli import doctor as checks
from streamlab.cli.options import Place
from streamlab.home.folder import Home
from streamlab.registry import schema
from streamlab.registry.registry import Registry

ROOT = Path(__file__).parents[2]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_plot_prints_the_three_paths_in_the_homes_figures(
    home: Home, call: Callable[..., Result]
) -> None:
    result = call("plot", "storage", "--run", "1")

    folder = home.figures / "glue_stream-1"
    expected = [folder / f"storage.{ending}" for ending in ("png", "svg", "csv")]
    assert result.exit_code == 0
    assert [Path(line) for line in result.stdout.splitlines()] == expected
    assert all(path.stat().st_size for path in expected)


def test_plotted_numbers_are_the_registrys(
    home: Home, tmp_path: Path, call: Callable[..., Result]
) -> None:
    call("plot", "storage", "--run", "glue_stream-1", "-o", str(tmp_path / "out"))

    rows = read_csv(tmp_path / "out" / "storage.csv")
    with Registry.open(home.registry_url, clock=lambda: 0.0, read_only=True) as registry:
        base = registry.bases.list()[0].file_bytes
        arrivals = registry.arrivals.list(
            run="glue_stream-1", method="diff_pruning", status="finished"
        )
        diffs = [registry.artifacts.get(a.digest or "") for a in arrivals if a.seed == 1]
    # The first seed only, in the order of arrival, and no baseline among them.
    assert [row["task"] for row in rows] == ["", "sst2", "mrpc"]
    assert [int(row["diff_bytes"]) for row in rows] == [0, *(diff.file_bytes for diff in diffs)]
    assert int(rows[-1]["ours_bytes"]) == base + sum(diff.file_bytes for diff in diffs)
    assert int(rows[-1]["full_bytes"]) == sum(diff.full_checkpoint_bytes for diff in diffs)


def test_plot_that_cannot_write_is_one_paragraph(
    tmp_path: Path, call: Callable[..., Result]
) -> None:
    (tmp_path / "file").write_text("in the way")

    result = call("plot", "storage", "-o", str(tmp_path / "file" / "figures"))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "cannot be written" in result.stderr


@pytest.fixture(scope="session")
def study() -> ModuleType:
    """The study, loaded from its file."""
    return load_script("analysis/storage_scaling.py")


def test_the_study_brings_runs_together(
    study: ModuleType, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = study.main([f"{home.path}@glue_stream-1", str(home.path), "-o", str(tmp_path / "f")])

    rows = read_csv(tmp_path / "f" / "storage.csv")
    assert code == 0
    assert [(row["run"], row["n_tasks"]) for row in rows] == [
        *(("glue_stream-1", str(n)) for n in (0, 1, 2)),
        *(("tiny-1", str(n)) for n in (0, 1)),
    ]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_study_without_a_registry_ends_with_one_paragraph(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("Error: There is no registry in the home")


def test_an_old_python_is_broken() -> None:
    assert checks.check_python((3, 10, 4)).status == "broken"
    assert checks.check_python(sys.version_info[:3]).status == "ok"


def test_a_missing_library_is_broken_and_one_that_is_there_is_not() -> None:
    assert checks.check_library("no-such-library-anywhere").status == "broken"
    assert {checks.check_library(name).status for name in checks.LIBRARIES} == {"ok"}


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", "ok", "avx2, avx512f, avx512_bf16"),
        ("flags : fpu avx2\n", "note", "avx2; no bf16, so `auto` trains in fp32"),
        ("Features : fp asimd bf16\n", "ok", "asimd, bf16"),
    ],
)
def test_instructions_are_read_as_linux_writes_them(
    text: str, status: str, found: str, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(text)

    finding = checks.check_instructions(tmp_path / "cpuinfo")

    assert (finding.status, finding.found) == (status, found)


def test_no_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)

    assert checks.check_compiler().status == "note"


def test_a_home_that_cannot_be_is_broken_and_a_new_one_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    assert checks.check_home(tmp_path / "file" / "home").status == "broken"
    assert checks.check_home(tmp_path / "new" / "home").status == "ok"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_registrys_version_is_found(home: Home, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all" * 1000)

    found = checks.check_registry(Place(home, None)).found
    assert found == f"SQLite {sqlite3.sqlite_version}, version {schema.NEWEST}"
    assert checks.check_registry(Place(Home(tmp_path / "new"), None)).status == "ok"
    assert checks.check_registry(Place(home, f"sqlite:///{damaged}")).status == "broken"


def test_an_unreachable_hub_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert checks.check_hub(1.0).status == "note"


def test_the_folder_of_real_data_is_looked_for(tmp_path: Path) -> None:
    unset = checks.check_data({})
    found = checks.check_data({"STREAMLAB_DATA": str(tmp_path)})
    missing = checks.check_data({"STREAMLAB_DATA": str(tmp_path / "none")})

    assert [finding.status for finding in (unset, found, missing)] == ["note", "ok", "broken"]
    assert unset.found == "STREAMLAB_DATA is not set, so no folder of real data is read"


def test_doctor_ends_with_1_where_something_is_broken(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "streamlab.cli.doctor.find_out",
        lambda *_, **__: iter([checks.Finding("disk", "broken", "0 B free")]),
    )

    result = call("doctor")

    assert result.exit_code == 1
    assert result.stdout == "check  status  found\ndisk   broken  0 B free\n"
    assert result.stderr == "Error: runs will fail because of: disk.\n"
