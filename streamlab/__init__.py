"""streamlab: what it costs to keep a tuned model for every task that arrives."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlab.diff.checkpoints import PretrainedDiff as DiffVector
    from streamlab.library.home import open_home as open_home
    from streamlab.library.run import run as run
    from streamlab.methods.pruner import DiffPruner as DiffPruner
    from streamlab.methods.trainer import DiffPruningConfig as DiffPruningConfig
    from streamlab.methods.trainer import DiffPruningTrainer as DiffPruningTrainer
    from streamlab.stream.engine import run as outcomes

from streamlab.version import __version__

__all__ = [
    "DiffPruner",
    "DiffPruningConfig",
    "DiffPruningTrainer",
    "DiffVector",
    "__version__",
    "open_home",
    "outcomes",
    "run",
]


_LAZY = {
    "DiffPruner": "streamlab.methods.pruner:DiffPruner",
    "DiffPruningConfig": "streamlab.methods.trainer:DiffPruningConfig",
    "DiffPruningTrainer": "streamlab.methods.trainer:DiffPruningTrainer",
    "DiffVector": "streamlab.diff.checkpoints:PretrainedDiff",
    "open_home": "streamlab.library.home:open_home",
    "outcomes": "streamlab.stream.engine:run",
    "run": "streamlab.library.run:run",
}


def __getattr__(name: str) -> object:
    # These need torch; knowing the version does not.
    if name not in _LAZY:
        raise AttributeError(f"module 'streamlab' has no attribute {name!r}")
    return resolve_name(_LAZY[name])


def __dir__() -> list[str]:
    return sorted(__all__)
