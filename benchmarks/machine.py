"""What figures of a benchmark depend on."""

from __future__ import annotations

import os
import platform


def machine() -> str:
    """Describe this machine and the versions that matter most."""
    import torch

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{os.cpu_count()} cores, {pages / 2**30:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
