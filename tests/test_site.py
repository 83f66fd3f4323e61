"""The documentation site is whole, needs no other host, and names the tests of every invariant."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import streamlab

ROOT = Path(__file__).parent.parent
INVARIANTS = (ROOT / "docs" / "concepts" / "invariants.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if not (site / page).with_suffix(".html").is_file()} == set()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:link|script|img|iframe)[^>]*?(?:src|href)=\"?([^\"\s>]+)", text)
        assert loaded
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == [], path.name


def test_the_page_of_objects_has_all_that_the_package_offers(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    named = set(re.findall(r'id="streamlab\.(\w+)"', text))

    assert set(streamlab.__all__) - {"__version__"} - named == set()


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_invariant_has_a_test_that_exists() -> None:
    rows = [line for line in INVARIANTS.splitlines() if line.startswith("| ")]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)` \|$", INVARIANTS, re.M)

    assert len(named) == len([row for row in rows if not row.startswith("| invariant |")]) > 30
    assert [pair for pair in named if pair[1] not in functions_of(ROOT / pair[0])] == []


def test_every_check_of_invariants_is_on_the_page() -> None:
    checks = functions_of(ROOT / "streamlab" / "stream" / "invariants.py")

    assert {name for name in checks if name.startswith("check_")} == set(
        re.findall(r"`(check_\w+)`", INVARIANTS)
    )


def test_the_citation_names_this_version_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert cited["version"] == streamlab.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()
    (paper,) = cited["references"]
    assert paper["title"] == "Parameter-Efficient Transfer Learning with Diff Pruning"


def test_the_hooks_are_valid_and_download_nothing() -> None:
    path = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", path], check=True)
    (repository,) = yaml.safe_load(path.read_text(encoding="utf-8"))["repos"]

    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
