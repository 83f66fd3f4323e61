"""A script outside the package as a module: an analysis, or what makes a page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def load_script(path: str) -> ModuleType:
    """Load a script by its path in the repository."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their annotations up
    folder = str((ROOT / path).parent)
    if folder not in sys.path:  # whose other scripts it may import
        sys.path.append(folder)
    spec.loader.exec_module(module)
    return module
