"""Packages with plug-ins, as `pip install` leaves them."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, *, package: str, entry_points: str, group: str, module: str = "") -> None:
    """Write a package of one module into `folder`, with entry points of one group."""
    name = package.replace("-", "_")
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry_points}\n")
