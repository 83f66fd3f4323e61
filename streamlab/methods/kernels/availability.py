"""Which kernels a training can run: C on a CPU, Triton on a GPU, or neither."""

from __future__ import annotations

from typing import Literal

import torch

from streamlab.methods.kernels.native import NativeStep, find_native_step
from streamlab.methods.kernels.triton_step import TritonKernels, find_triton

StepSetting = Literal["auto", "compiled", "eager"]


def find_kernels(
    step: StepSetting, device: torch.device, n_threads: int
) -> NativeStep | TritonKernels | None:
    """Return the kernels for `training.step` on a device; None stands for PyTorch."""
    if step == "eager":
        return None
    return find_native_step(n_threads) if device.type == "cpu" else find_triton(device)
