"""A home crafted to hurt is refused by name or imported harmlessly."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hostile_samples import harms
from registry_samples import digest_of, new_run

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.registry.records import NewBase, given_part
from streamlab.registry.registry import Registry

HARMS = dict(harms())
MOST_SECONDS = 5.0


@pytest.fixture(scope="module")
def own(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a run of its own on the same base."""
    home = Home(tmp_path_factory.mktemp("own") / "home")
    home.create()
    with Registry.open(Home(trained).registry_url, clock=time.time, read_only=True) as registry:
        (base,) = registry.bases.list()
    with Registry.open(home.registry_url, clock=time.time) as registry:
        registry.bases.add(given_part(base, NewBase))
        new = new_run(base_fingerprint=base.fingerprint, scenario_digest=digest_of("own"))
        registry.runs.finish(registry.runs.start(new).id, "finished")
    return home


def call(home: Home, *words: str) -> Result:
    began = time.monotonic()
    result = CliRunner().invoke(cli, [*words, "--home", str(home.path)])
    assert time.monotonic() - began < MOST_SECONDS
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal", ".reserve"))
    }


def test_there_are_many_and_the_honest_home_is_taken(
    own: Home, trained: Path, tmp_path: Path
) -> None:
    here = Home(shutil.copytree(own.path, tmp_path / "here"))

    taken = call(here, "import", str(trained))

    assert len(HARMS) >= 100
    assert taken.exit_code == 0, taken.stderr
    assert "pair-2" in taken.stdout


@pytest.mark.parametrize("name", HARMS)
def test_a_crafted_home_hurts_nobody(name: str, own: Home, trained: Path, tmp_path: Path) -> None:
    here = Home(shutil.copytree(own.path, tmp_path / "here"))
    other = Home(shutil.copytree(trained, tmp_path / "other"))
    victim = tmp_path / "mine" / "file"
    victim.parent.mkdir()
    victim.write_bytes(b"mine")
    HARMS[name](other, victim)
    before, outside = content(here.path), content(victim.parent)
    runs = call(here, "ls", "runs", "--format", "csv").stdout.splitlines()

    taken = call(here, "import", str(other.path))

    assert content(victim.parent) == outside
    if taken.exit_code:
        assert taken.stderr.strip()
        assert content(here.path) == before
        return
    for subject in ("runs", "arrivals", "scores", "bases", "events"):
        listed = call(here, "ls", subject, "--format", "csv")
        assert (listed.exit_code, listed.stderr.count("damaged")) == (0, 0)
    assert runs[1] in call(here, "ls", "runs", "--format", "csv").stdout.splitlines()
    checked = call(here, "verify")
    assert checked.exit_code == 0, checked.stdout
