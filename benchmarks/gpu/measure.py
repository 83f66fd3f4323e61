"""Correctness, step times and switching times on a GPU, into one JSON and one table.

    benchmarks/gpu/run.sh [--device cpu] [--quick] FOLDER

Errors of every kernel against the float64 reference on random tensors; times of whole training
steps, random weights and inputs, one method after another; decoding, applying and swapping a diff
of 0.5%; arrivals per hour with 1 to 8 providers training at once (needs the extra `demo`).
`--quick` takes tiny shapes: it shows that everything runs, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from arrivals import arrival_times
from kernel_errors import kernel_errors
from step_times import step_times
from switch_times import switch_times
from table import markdown

LIBRARIES = ("torch", "triton", "transformers", "peft", "numpy", "pcodec", "pydantic")


def main() -> None:
    """Measure everything and write `gpu.json` and `gpu.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few repeats")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "environment": lambda: environment(options.device),
        "kernels": lambda: kernel_errors(options.device, quick=options.quick),
        "steps": lambda: step_times(options.device, quick=options.quick),
        "switching": lambda: switch_times(options.device, quick=options.quick),
        "arrivals": lambda: arrival_times(options.device, quick=options.quick),
    }
    found: dict[str, Any] = {"quick": options.quick}
    for name, measure in parts.items():
        began = time.perf_counter()
        found[name] = measure()
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        # Written after every part, so that an interrupted run leaves what it has.
        text = json.dumps(found, indent=1) + "\n"
        (options.folder / "gpu.json").write_text(text, encoding="utf-8")
    table = markdown(found)
    (options.folder / "gpu.md").write_text(table, encoding="utf-8")
    print(table)


def environment(device: str) -> dict[str, str]:
    """Return the card, its driver and the versions of the libraries."""
    found = {"python": platform.python_version(), "device": device}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, check=True, capture_output=True, text=True)  # noqa: S603
        found["driver"] = driver.stdout.strip()
        found["card"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    return found


if __name__ == "__main__":
    main()
