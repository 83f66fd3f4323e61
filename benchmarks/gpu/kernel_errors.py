"""Errors of every kernel against the float64 reference, and whether a step repeats bit for bit."""

from __future__ import annotations

import importlib.util
import secrets
from typing import Any

from step_reference import Comparison, Kernels

from streamlab.methods.kernels.native import find_native_step
from streamlab.methods.kernels.triton_step import TritonKernels

SHAPES = {
    "a layer": ((1024, 1024), (1024,), (4096, 1024), (4096,), (1024, 4096), (2, 1024)),
    "odd sizes": ((0,), (1,), (15,), (16,), (17,), (1023,), (1024,), (1025,), (3001, 7), (65_537,)),
}
QUICK_SHAPES = {"odd sizes": ((0,), (1,), (17,), (1025,))}
N_REPEATS = 3


def kernel_errors(device: str, *, quick: bool) -> dict[str, Any]:
    """Return the largest errors by kernels and case, on inputs of a fresh seed."""
    seed = secrets.randbits(31)
    found: dict[str, Any] = {"seed": seed}
    for kind, kernels in _kernels(device).items():
        for name, shapes in (QUICK_SHAPES if quick else SHAPES).items():
            made = Comparison(shapes, missing=(3,), device=device, seed=seed)
            errors = {
                "unstructured": made.gated(kernels),
                "structured": made.gated(kernels, structured=True),
                "fixed mask": made.fixed_mask(triton=isinstance(kernels, TritonKernels)),
            }
            found[f"{kind}, {name}"] = errors
            found[f"{kind}, {name}, repeats"] = _repeats(kernels, shapes, device, seed)
    return found


def _kernels(device: str) -> dict[str, Kernels]:
    kinds: dict[str, Kernels] = {"eager": None}
    if device == "cpu":
        kinds["native"] = find_native_step(2)
    elif importlib.util.find_spec("triton"):
        kinds["triton"] = TritonKernels()
    return kinds


def _repeats(kernels: Kernels, shapes: tuple[tuple[int, ...], ...], device: str, seed: int) -> bool:
    """Tell whether the same step gives the same errors, which depend on every bit of a result."""
    seen = {
        str(Comparison(shapes, device=device, seed=seed).gated(kernels, structured=True))
        for _ in range(N_REPEATS)
    }
    return len(seen) == 1
