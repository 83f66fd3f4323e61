"""Which kernels a training can run: C on a CPU, Triton on a GPU, or neither."""

from __future__ import annotations

from typing import Literal

import torch

from streamlab.compiler import find_compiler
from streamlab.methods.kernels.native import (
    NativeStep,
    find_library,
    find_native_step,
)
from streamlab.methods.kernels.selected_gradient import SelectedProduct
from streamlab.methods.kernels.triton_step import TritonKernels, find_triton

StepSetting = Literal["auto", "compiled", "eager"]


def find_kernels(
    step: StepSetting, device: torch.device, n_threads: int
) -> NativeStep | TritonKernels | None:
    """Return the kernels for `training.step` on a device; None stands for PyTorch."""
    if step == "eager":
        return None
    return find_native_step(n_threads) if device.type == "cpu" else find_triton(device)


def find_selected_product(
    step: StepSetting, device: torch.device, n_threads: int
) -> SelectedProduct | None:
    """Return the product of selected entries for `training.step`; None stands for PyTorch's."""
    library = None if step == "eager" or device.type != "cpu" else find_library()
    return None if library is None else SelectedProduct(library, n_threads)


def explain_eager(step: StepSetting, device: torch.device) -> str:
    """Return why `training.step: auto` takes the step in PyTorch here; "" where it does not."""
    if step != "auto" or find_kernels(step, device, n_threads=1) is not None:
        return ""
    if device.type != "cpu":
        return f"Triton cannot be used on `{device}`"
    compiler = find_compiler()
    if compiler is None:
        return "There is no C compiler (`cc`, `gcc`, or the value of `CC`)"
    return f"`{compiler}` cannot build the compiled training step"
