"""What is installed is the whole package."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_on_the_list_of_what_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.glob("streamlab/**/__init__.py")
    ]

    assert settings["tool"]["setuptools"]["packages"] == sorted(found)
