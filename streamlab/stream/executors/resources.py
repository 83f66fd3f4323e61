"""What an arrival needs of a machine while it is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from streamlab.errors import UsageError
from streamlab.stream.executors.gate import Claim
from streamlab.stream.providers.provider import Order
from streamlab.stream.run_context import RunContext, find_device


@dataclass(frozen=True)
class Resources:
    """Processors, a share of one GPU, and bytes of memory."""

    cpus: float
    gpus: float
    gpu: int | None  # the one that `training.device` names
    memory: int | None


def resources_of(task: str, context: RunContext) -> Resources:
    """Return what a task needs by the scenario, or by default.

    Raises UsageError where its device and its share of a GPU contradict each other.
    """
    scenario, training = context.scenario, context.training(task)
    given, general = scenario.tasks[task].resources, scenario.execution.resources
    device = find_device(training.device)
    on_gpu = device.type == "cuda"
    gpus = given.gpus if given.gpus is not None else general.gpus
    if gpus is not None and (gpus > 0) != on_gpu:
        raise UsageError(
            f"`resources.gpus` of `{task}` is {gpus:g}, and it is trained on "
            f"{'a GPU' if on_gpu else 'the processor'} (`training.device: {training.device}`). "
            "Leave `gpus` out, or change the device."
        )
    return Resources(
        cpus=given.cpus or general.cpus or training.threads,
        gpus=float(on_gpu) if gpus is None else gpus,
        gpu=device.index,
        memory=given.memory or general.memory or scenario.execution.memory,
    )


def claim_of(order: Order, context: RunContext) -> Claim:
    """Return what an order needs to be answered on this machine."""
    needed = resources_of(order.arrival.task, context)
    return Claim(order.arrival.provider, order.alone, needed.gpus, needed.gpu)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    names = [name for name in named if name] or [str(n) for n in range(torch.cuda.device_count())]
    return tuple(names[: torch.cuda.device_count()])


def n_at_once(context: RunContext, *, workers: int, n_gpus: int) -> int:
    """Return how many of the scenario's arrivals can be trained at once by so many workers."""
    shares = [resources_of(task, context).gpus for task in context.scenario.tasks]
    if not n_gpus or not min(shares):
        return workers
    return min(workers, n_gpus * int(1 / min(shares) + 1e-9))
