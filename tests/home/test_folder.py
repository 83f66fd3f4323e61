from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_samples import Clock

from streamlab.errors import RegistryError, StoreError
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.registry import Registry


def test_a_home_makes_its_folders_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "far" / "home")
    home.create()
    home.create()

    assert sorted(path.name for path in home.path.rglob("*")) == [
        ".reserve",
        "curves",
        "figures",
        "reports",
        "store",
    ]
    assert [home.store, home.curves] == [home.path / "store", home.path / "curves"]


def test_a_home_alone_makes_nothing(tmp_path: Path) -> None:
    assert Home(tmp_path / "home").registry_url.endswith("/home/registry.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plain", "with space", "100%41", "a#b", "é"])
def test_the_registry_lies_in_its_home_whatever_the_home_is_called(
    tmp_path: Path, name: str
) -> None:
    home = Home(tmp_path / name)
    home.create()
    Registry.open(home.registry_url, clock=Clock()).close()
    Registry.open(home.registry_url, clock=Clock(), read_only=True).close()

    assert (home.path / "registry.db").is_file()


def test_a_relative_home_stays_where_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = Home(Path("home")).registry_url

    assert url == f"sqlite:///{tmp_path}/home/registry.db"


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that this process may not write to, even where it runs as root."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    yield folder
    if as_root:
        os.seteuid(0)


def test_an_unwritable_home_is_one_clear_paragraph(read_only_folder: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Home(read_only_folder / "home").create()

    message = str(caught.value)
    assert f"{read_only_folder}/home cannot be written: Permission denied" in message
    assert "`--home`" in message
    assert "\n" not in message


def test_a_home_that_is_there_but_unwritable_is_refused(read_only_folder: Path) -> None:
    with pytest.raises(StoreError, match="Permission denied"):
        Home(read_only_folder).create()


def test_a_registry_in_an_unwritable_folder_is_one_clear_paragraph(read_only_folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"could not be .*writable") as caught:
        Registry.open(Home(read_only_folder).registry_url, clock=Clock())
    assert "\n" not in str(caught.value)


def test_a_store_in_a_locked_folder_is_explained(read_only_folder: Path) -> None:
    store = FolderStore(read_only_folder / "store")

    with pytest.raises(StoreError, match="cannot be written: Permission denied"):
        store.put(b"a diff")


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StoreError, match="Not a directory"):
        Home(tmp_path / "file" / "home").create()


def test_every_provider_has_a_folder_of_its_own_in_quarantine(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = ["a", "b", "..", ".", "a/b", "a%2Fb", "ü", "x" * 300, "x" * 301]

    folders = [home.quarantine_of(name) for name in names]

    assert len(set(folders)) == len(names)
    assert {folder.parent for folder in folders} == {home.quarantine}
    for folder in folders:
        folder.mkdir(parents=True)
    assert sorted(folder.name for folder in home.quarantine.iterdir()) == sorted(
        folder.name for folder in folders
    )


@pytest.mark.parametrize("name", ["../../escaped", "/etc", "..", ".", "a/b", "x" * 400, "\u202e\0"])
def test_no_name_of_a_run_leads_out_of_the_home(name: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    figures, report = home.figures_of(name), home.report_of(name)

    assert figures.resolve().parent == home.figures
    assert report.resolve().parent == home.reports
    assert max(len(figures.name), len(report.name)) < 120
    assert home.figures_of("glue_stream-1").name == "glue_stream-1"


@pytest.mark.parametrize("name", ["store", "curves", "figures", "reports", "quarantine"])
def test_a_folder_that_leads_out_of_the_home_is_refused(name: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home.path / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="is a link, and links are not followed"):
        home.create()
    with pytest.raises(StoreError, match="is a link, and links are not followed"):
        home.require_registry()
    assert not [*(tmp_path / "elsewhere").iterdir()]
