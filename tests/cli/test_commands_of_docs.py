"""The commands in the code blocks of the pages run as they are written, on a finished run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from stream_samples import Ran, carry_out, make_lab, task

from streamlab.cli import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    page for folder in ("guides", "concepts", "reference") for page in (DOCS / folder).glob("*.md")
)
# What a block cannot run here, each with the reason; these have tests of their own.
ELSEWHERE = {
    "run": "trains for minutes",
    "check": "trains for minutes",
    "study": "trains for hours",
    "doctor": "asks servers and clusters that are not here",
    "db": "needs a PostgreSQL server",
}
MISSING = (
    "SCENARIO",
    "SUBJECT",
    "NAME",
    "FILE",
    "HOME",
    "other-home",
    "./tuned",
    "GLUE",
    "--sweep",
)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page's code blocks, but for those that cannot run here."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(
        r"^ {4}(streamlab .*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M
    )
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] != ["streamlab"] or words[1] in ELSEWHERE:
            continue
        if not any(part in word for word in words for part in MISSING):
            yield words[1:]


# The reference shows how the shell completes; the tour runs on the real base, in `test_readme.py`.
OTHERS = ("commands.md", "tour.md")
WITH_COMMANDS = [page for page in PAGES if page.name not in OTHERS and any(commands(page))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A finished run with the names of the README's, two versions of one task among it."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    rows = {"cola": "mood", "sst2": "mood", "mrpc": "same", "stsb": "degree", "tickets": "mood"}
    path = lab.scenario(
        name="glue_stream",
        tasks={name: task(of) for name, of in rows.items()},
        providers={
            "reviews_inc": {"tasks": ["cola", "sst2"], "n_arrivals": 4},
            "newswire": {"tasks": ["mrpc", "stsb"]},
            "helpdesk": {"tasks": ["tickets"]},
        },
    )
    return carry_out(path, tmp_path_factory.mktemp("docs") / "streamlab-home")


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(
    page: Path, ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ran.home.path, tmp_path / "streamlab-home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMLAB_HOME", raising=False)

    for words in commands(page):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, (words, result.stderr)


def test_several_pages_have_commands_that_run() -> None:
    assert {"first-run", "capacity", "maintenance"} <= {page.stem for page in WITH_COMMANDS}
