"""Whole sessions of commands that change a home or use one, held against stored text.

Each is a list of calls in their order; what is stored is the whole transcript, with the exit
codes and standard error. Write them anew with STREAMLAB_WRITE_EXPECTED=1.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from serving_samples import caller, learn
from stream_samples import make_lab

from streamlab.home.folder import Home

EXPECTED = Path(__file__).parent / "sessions"
# On the fixed registry, whose files are not there.
SESSIONS = {
    "names": [
        "tag best arrival:1",
        "tag published run:glue_stream-1",
        "tag",
        "ls tags --format csv",
        "show best --format json",
        "tag --remove best",
        "tag --remove best",
    ],
    "removal": [
        "rm 1 2",
        "ls arrivals",
        "ls arrivals --removed",
        "rm 1",
        "restore 1",
        "gc --dry-run --now",
        "ls events --limit 3",
    ],
    "purging": [
        "purge --provider newswire --dry-run",
        "purge --provider newswire --yes",
        "ls providers",
        "ls events --limit 4",
    ],
    "versions": ["rollback sst2@1", "rollback sst2@2"],
    "findings": ["verify", "verify --format csv", "du --by task", "du --by method --format json"],
    "tables": [
        "db current",
        "db upgrade",
        "export scores --run latest -o scores.csv",
        "export runs -o runs.txt",
    ],
    "planning": [
        "fit --budget 100MB --run glue_stream-1",
        "fit --budget 1MB --run glue_stream-1",
    ],
}
# On three tasks learnt on a tiny base.
SERVED = {
    "predict": [
        'predict sst2 "a fine film" "dull"',
        'predict rte --pair "A man sleeps." "Somebody is asleep." --format csv',
        'predict rte "one text"',
        "predict nothing text",
    ],
    "exchange": [
        "export sst2 -o sst2.sldiff",
        "import sst2.sldiff --provider somebody",
        "import sst2.sldiff --provider somebody",
        "merge sst2 --to merged",
        "merge sst2 --to merged",
    ],
    "swap": ["swap sst2 rte --repeats 3 --format csv"],
}

Call = Callable[..., Result]


def transcript(calls: list[str], call: Call) -> str:
    parts = []
    for line in calls:
        result = call(*shlex.split(line))
        parts += [f"$ streamlab {line}", result.stdout.rstrip("\n")]
        parts += [f"! {told}" for told in result.stderr.splitlines()]
        parts += [f"exit {result.exit_code}", ""]
    return "\n".join(part for part in parts if part) + "\n"


def masked(text: str, *folders: Path) -> str:
    """Leave out what differs from machine to machine and day to day."""
    for folder in folders:
        text = text.replace(str(folder), "HERE")
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d", "TIME", text)
    text = re.sub(r'("(?:at|added_at|removed_at)": )[\d.]+', r"\1TIME", text)
    return re.sub(r",1[78]\d{8}\.?\d*", ",TIME", text)


def held(name: str, found: str) -> None:
    path = EXPECTED / f"{name}.txt"
    if os.environ.get("STREAMLAB_WRITE_EXPECTED"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_on_the_fixed_registry_is_the_stored_text(
    name: str, home: Home, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    found = masked(transcript(SESSIONS[name], call), home.path, tmp_path)

    if name == "planning":  # the registry's file is as large as this SQLite makes it
        found = re.sub(r"(?m)^(registry|total|rounding) .*$", r"\1 BYTES", found)
        found = re.sub(r"(?m)^(  (?:tasks that fit|at least).*?  +)\d.*$", r"\1TASKS", found)
        found = re.sub(r"(alone take )[\d,]+|\d+\.\d\d%", r"\1NUMBER", found)
    held(name, found)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three tasks learnt on a tiny base."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    return learn(lab, tmp_path_factory.mktemp("served") / "home").home.path


@pytest.mark.parametrize("name", SERVED)
def test_a_session_on_stored_tasks_is_the_stored_text(
    name: str, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(served, tmp_path / "home")
    monkeypatch.chdir(tmp_path)

    found = masked(transcript(SERVED[name], caller(home)), tmp_path)

    # What a tiny model says, and how fast, is the machine's affair.
    found = re.sub(r"\d+\.\d+(e-?\d+)?", "NUMBER", found)
    held(name, re.sub(r"(  |,)[01](  |,)", r"\1LABEL\2", found))


def test_every_stored_session_belongs_to_a_test() -> None:
    assert {path.stem for path in EXPECTED.iterdir()} == {*SESSIONS, *SERVED}
