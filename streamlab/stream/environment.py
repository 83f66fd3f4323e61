"""The machine and libraries of a run, on which the last bits of its results depend."""

from __future__ import annotations

import json
import os
import platform
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version

import torch

from streamlab.methods.api import TrainingSettings
from streamlab.methods.kernels.availability import find_kernels
from streamlab.methods.kernels.triton_step import TritonKernels
from streamlab.methods.training_loop import uses_bf16
from streamlab.stream.run_context import find_device
from streamlab.version import __version__

_LIBRARIES = ("torch", "transformers", "datasets", "numpy", "safetensors", "pcodec", "scikit-learn")


def describe_environment(training: TrainingSettings) -> dict[str, str]:
    """Return versions, processor, device, precision, threads and the kind of training step."""
    device = find_device(training.device)
    kernels = find_kernels(training.step, device, training.threads)
    compiled = "triton" if isinstance(kernels, TritonKernels) else "compiled"
    return {
        "streamlab": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": "bf16" if uses_bf16(training.precision, device) else "fp32",
        "threads": str(training.threads),
        "step": "eager" if kernels is None else compiled,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


@lru_cache(maxsize=16)  # the processor and the libraries stay the same
def environment_digest(training: TrainingSettings) -> str:
    """Return 16 hex digits that stand for `describe_environment`."""
    text = json.dumps(describe_environment(training), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"
