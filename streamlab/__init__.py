"""streamlab: what it costs to keep a tuned model for every task that arrives."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlab.diff.checkpoints import PretrainedDiff as DiffVector
    from streamlab.inference.open_home import open_home as open_home
    from streamlab.methods.pruner import DiffPruner as DiffPruner
    from streamlab.stream.engine import run as run

from streamlab.version import __version__

__all__ = ["DiffPruner", "DiffVector", "__version__", "open_home", "run"]


_LAZY = {
    "DiffPruner": "streamlab.methods.pruner:DiffPruner",
    "DiffVector": "streamlab.diff.checkpoints:PretrainedDiff",
    "open_home": "streamlab.inference.open_home:open_home",
    "run": "streamlab.stream.engine:run",
}


def __getattr__(name: str) -> object:
    # These need torch; knowing the version does not.
    if name not in _LAZY:
        raise AttributeError(f"module 'streamlab' has no attribute {name!r}")
    return resolve_name(_LAZY[name])
