"""Run streamlab from a checkout, without installing it: `python cli.py run scenario.yaml`."""

from __future__ import annotations

from streamlab.cli import main

if __name__ == "__main__":
    main()
