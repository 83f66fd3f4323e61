"""streamlab: what it costs to keep a tuned model for every task that arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlab.diff.checkpoints import PretrainedDiff as DiffVector
    from streamlab.inference.open_home import open_home as open_home
    from streamlab.stream.engine import run as run

from streamlab.version import __version__

__all__ = ["DiffVector", "__version__", "open_home", "run"]


def __getattr__(name: str) -> object:
    # Running needs torch; knowing the version does not.
    if name == "run":
        from streamlab.stream.engine import run

        return run
    if name == "DiffVector":
        from streamlab.diff.checkpoints import PretrainedDiff

        return PretrainedDiff
    if name == "open_home":
        from streamlab.inference.open_home import open_home

        return open_home
    raise AttributeError(f"module 'streamlab' has no attribute {name!r}")
