from __future__ import annotations

import sys
from pathlib import Path

# Before the samples are imported.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))
