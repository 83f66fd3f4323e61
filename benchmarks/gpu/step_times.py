"""Times of whole training steps, of their updates, and peak memory, method by method."""

from __future__ import annotations

import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification

from streamlab.diff.layout import Layout
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import TrainingJob, TrainingSettings
from streamlab.methods.fixed_mask import fixed_mask_step
from streamlab.methods.gates.gated_stage import GatedStage, GateSettings
from streamlab.methods.masks.selection import Selection, budget
from streamlab.methods.training_loop import TakeStep, batch_loss, dense_step, endless
from streamlab.tasks.batches import Batch
from streamlab.tasks.types import task_type

DENSITY = 0.005
UNTOUCHED = 0.4  # share of the tensors, in the second of the fixed masks
# Read: base, gradient, and w and log_alpha with their moments; written: all but the first two,
# and the effective weights. AdamW reads four tensors and writes three. float32.
GATED_BYTES, ADAMW_BYTES = 4 * (8 + 7), 4 * (4 + 3)
GATED_KERNELS = ("gated_step", "add_up")
COPIED = 1 << 30  # bytes
N_BATCHES = 50


@dataclass(frozen=True)
class Shape:
    """The size of a model and of its batches."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int = 30_522
    n_examples: int = 32
    n_tokens: int = 128


SHAPES = {
    "MiniLM": Shape(6, 384, 12, 1536),
    "BERT-large": Shape(24, 1024, 16, 4096),
}
QUICK_SHAPES = {"tiny": Shape(2, 32, 2, 64, vocabulary=100, n_examples=4, n_tokens=16)}


@dataclass(frozen=True)
class Stage:
    """A job at the start of a stage, and the function that takes its steps."""

    job: TrainingJob
    take_step: TakeStep


def step_times(device: str, *, quick: bool) -> dict[str, Any]:
    """Return times and memory by shape and method, with the measured speed of a copy."""
    found: dict[str, Any] = {"copy_bytes_per_second": copy_speed(device, quick=quick)}
    methods: dict[str, Callable[[TrainingJob], Stage]] = {
        "full finetuning": full,
        "gated": lambda job: gated(job, structured=False),
        "structured": lambda job: gated(job, structured=True),
        "fixed mask": lambda job: fixed_mask(job, untouched=0.0),
        "fixed mask, 40% of the tensors untouched": lambda job: fixed_mask(job, UNTOUCHED),
        "LoRA r=8": lora,
        "full finetuning, again": full,
    }
    for name, shape in (QUICK_SHAPES if quick else SHAPES).items():
        found[name] = {}
        for method, enter in methods.items():
            found[name][method] = measure(enter, shape, device, n_steps=3 if quick else 20)
            print(f"{name}, {method}: {found[name][method]['step_ms']:.1f} ms", flush=True)
    return found


def copy_speed(device: str, *, quick: bool) -> float:
    """Return the bytes that a copy of a large tensor reads and writes in a second."""
    source = torch.zeros((COPIED >> (8 if quick else 0)) // 4, device=device)
    target = torch.empty_like(source)
    clock = Clock(device)
    for _ in range(12):
        target.copy_(source)
        clock.tick()
    return 2 * 4 * source.numel() / (1e-3 * statistics.median(clock.laps()[2:]))


class Clock:
    """Ticks in the order of a device's work, without waiting for it."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self._ticks: list[Any] = []
        self.tick()

    def tick(self) -> None:
        """Record that the work so far is done."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._ticks.append(event)
        else:
            self._ticks.append(time.perf_counter())

    def laps(self) -> list[float]:
        """Return the milliseconds between ticks."""
        pairs = zip(self._ticks[:-1], self._ticks[1:], strict=True)
        if not self._on_gpu:
            return [1e3 * (after - before) for before, after in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) for before, after in pairs]


def measure(
    enter: Callable[[TrainingJob], Stage], shape: Shape, device: str, *, n_steps: int
) -> dict[str, Any]:
    """Time a method's steps; peak memory is that of the steps, after their stage is entered."""
    gc.collect()  # the model of the method before
    if device == "cuda":
        torch.cuda.empty_cache()
    stage = enter(job_for(shape, device))
    batches = endless(stage.job.batches)
    for _ in range(3):
        step(stage, next(batches))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = timed(lambda tick: step(stage, next(batches), tick), device, n_steps)
    found["n_parameters"] = sum(p.numel() for p in stage.job.backbone.values())
    if device == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        found["profile"] = profiled(lambda: step(stage, next(batches)))
        replayed = graphed_step(stage, next(batches))
        found["graph"] = timed(replayed, device, n_steps)
        found["graph"]["profile"] = profiled(lambda: replayed(lambda: None))
    return found


def timed(
    take_step: Callable[[Callable[[], None]], None], device: str, n_steps: int
) -> dict[str, Any]:
    """Return the medians of whole steps and of their updates; a step calls a tick before its."""
    clock = Clock(device)
    for _ in range(n_steps):
        take_step(clock.tick)
        clock.tick()
    laps = clock.laps()
    passes, updates = laps[::2], laps[1::2]
    return {
        "step_ms": statistics.median(a + b for a, b in zip(passes, updates, strict=True)),
        "update_ms": statistics.median(updates),
    }


def graphed_step(stage: Stage, batch: Any) -> Callable[[Callable[[], None]], None]:
    """Capture forward and backward as one CUDA graph; return a step that replays it.

    Without it, starting more than two thousand kernels takes longer than they run. The loss is
    not read: a loop reads it every few steps. Padding is not masked, as there is none.
    """
    job = stage.job
    unmasked = Batch({"input_ids": batch.inputs["input_ids"]}, batch.labels)

    def passes() -> None:
        batch_loss(job.model, unmasked, job.training, job.loss).backward()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            passes()
            job.model.zero_grad(set_to_none=True)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # The library builds a mask while a graph is captured, and attention is slow with one.
    with (
        patch("transformers.masking_utils.is_tracing", return_value=False),
        torch.cuda.graph(graph),
    ):
        passes()

    def take_step(tick: Callable[[], None]) -> None:
        graph.replay()
        tick()
        stage.take_step(1.0)

    return take_step


def step(stage: Stage, batch: Any, between: Callable[[], None] = lambda: None) -> None:
    """Take one step as the training loop does."""
    job = stage.job
    loss = batch_loss(job.model, batch, job.training, job.loss)
    float(loss.detach())
    loss.backward()
    between()
    stage.take_step(1.0)
    for parameter in job.model.parameters():
        parameter.grad = None


def profiled(take_step: Callable[[], None], n_steps: int = 3) -> dict[str, Any]:
    """Return milliseconds per step that kernels took, the longest ones and the time of the step."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        began = time.perf_counter()
        for _ in range(n_steps):
            take_step()
        torch.cuda.synchronize()
        whole = time.perf_counter() - began
    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in trace.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            times[event.name] += event.time_range.elapsed_us() / 1e3 / n_steps
            counts[event.name] += 1
    return {
        "step_ms": 1e3 * whole / n_steps,
        "kernel_ms": sum(times.values()),
        "n_kernels": sum(counts.values()) / n_steps,
        "longest_ms": {name[:90]: round(ms, 3) for name, ms in times.most_common(14)},
        "ours_ms": {
            name: round(ms, 3)
            for name, ms in times.items()
            if name in (*GATED_KERNELS, "fixed_mask_step", "read_entries")
        },
        "adamw_ms": round(sum(ms for name, ms in times.items() if "FusedAdam" in name), 3),
    }


def job_for(shape: Shape, device: str) -> TrainingJob:
    """Make a job on a model of random weights, with random batches."""
    config = BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, intermediate_size=shape.inner, num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = BertForSequenceClassification(config).train()
    parameters = dict(model.named_parameters())
    backbone = {n.removeprefix("bert."): p for n, p in parameters.items() if n.startswith("bert.")}
    return TrainingJob(
        task="random",
        model=model,
        layout=Layout("0" * 64, tuple(backbone), tuple(tuple(p.shape) for p in backbone.values())),
        base={name: p.detach().clone() for name, p in backbone.items()},
        backbone=backbone,
        head={n: p for n, p in parameters.items() if n.startswith("classifier.")},
        n_batches=N_BATCHES,
        batches=lambda epoch: random_batches(shape, device, epoch),
        loss=task_type("classification").loss,
        training=TrainingSettings(
            precision="bf16" if device == "cuda" else "auto", device=device, learning_rate=1e-5
        ),
        seed=1,
    )


def random_batches(shape: Shape, device: str, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch, which hold nearly all words."""
    generator = torch.Generator(device).manual_seed(epoch)
    size = (shape.n_examples, shape.n_tokens)
    for _ in range(N_BATCHES):
        ids = torch.randint(shape.vocabulary, size, generator=generator, device=device)
        labels = torch.randint(2, size[:1], generator=generator, device=device)
        yield Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels)


def full(job: TrainingJob) -> Stage:
    """Enter full finetuning with PyTorch's fused AdamW."""
    return Stage(job, dense_step(job)[1])


def gated(job: TrainingJob, *, structured: bool) -> Stage:
    """Enter the gated stage after one dense step."""
    optimizer, take_step = dense_step(job)
    step(Stage(job, take_step), next(job.batches(0)))
    settings = GateSettings(structured=structured)
    made = GatedStage(settings, job, optimizer, target_density=DENSITY, n_steps=100)
    return Stage(job, made.take_step)


def fixed_mask(job: TrainingJob, untouched: float) -> Stage:
    """Enter the fixed-mask stage on a random mask of all tensors but a share of `untouched`."""
    tensors = list(job.backbone.values())
    left_out = set(torch.randperm(len(tensors))[: round(untouched * len(tensors))].tolist())
    n_free = sum(p.numel() for i, p in enumerate(tensors) if i not in left_out)
    share = budget(DENSITY, job.layout.n_gated) / n_free
    positions = [
        (torch.rand(p.numel(), device=p.device) < (0.0 if i in left_out else share))
        .nonzero()
        .squeeze(-1)
        for i, p in enumerate(tensors)
    ]
    return Stage(job, fixed_mask_step(job, Selection(positions), learning_rate=1e-4)[2])


def lora(job: TrainingJob) -> Stage:
    """Enter LoRA of rank 8 on queries and values."""
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(job.model, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    clip_norm = job.training.clip_norm
    return Stage(job, adam_optimizer((trained, 1e-3), clipped=trained, clip_norm=clip_norm)[1])
