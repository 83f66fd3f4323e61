"""What the tests of methods share: both fused steps, and a task small enough to learn at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from streamlab.diff.layout import Layout
from streamlab.hashing import fingerprint_tensors
from streamlab.methods.api import TrainingJob, TrainingSettings
from streamlab.methods.kernels.native import NativeStep, find_native_step
from streamlab.methods.kernels.triton_step import TritonKernels
from streamlab.tasks.batches import Batch
from streamlab.tasks.types import task_type

N_BATCHES, N_ROWS, LENGTH = 4, 16, 8
SHORT: dict[str, Any] = {
    "epochs": 6.0, "min_steps": 0, "learning_rate": 3e-3, "head_learning_rate": 2e-2,
    "precision": "fp32", "device": "cpu", "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute on one thread: tensors this small are slower on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def native_step() -> NativeStep:
    """The compiled step on two threads."""
    found = find_native_step(2)
    if found is None:
        pytest.skip("no C compiler that can make the compiled step")
    return found


@pytest.fixture(scope="session")
def triton_kernels() -> TritonKernels:
    """The Triton kernels in small programs, interpreted where there is no GPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("no Triton here")
    return TritonKernels(block_entries=64)


@pytest.fixture(params=["eager", "native"])
def fused_step(request: pytest.FixtureRequest) -> NativeStep | None:
    """Each of the two steps in turn; None stands for the one in PyTorch."""
    if request.param == "eager":
        return None
    native: NativeStep = request.getfixturevalue("native_step")
    return native


@pytest.fixture(params=["eager", "native", "triton"])
def every_kernel(request: pytest.FixtureRequest) -> NativeStep | TritonKernels | None:
    """Each of the kernels in turn; None stands for PyTorch."""
    if request.param == "eager":
        return None
    name = "native_step" if request.param == "native" else "triton_kernels"
    kernels: NativeStep | TritonKernels = request.getfixturevalue(name)
    return kernels


@pytest.fixture(scope="session")
def make_job(tiny_sizes: dict[str, Any]) -> Callable[..., TrainingJob]:
    """Make the job of learning which of two words a text holds, on a BERT of random weights."""

    def make(seed: int = 1, *, regression: bool = False, **training: Any) -> TrainingJob:
        config = BertConfig(**tiny_sizes | {"vocab_size": 200, "num_labels": 2 - regression})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = BertForSequenceClassification(config).eval()
        parameters = dict(model.named_parameters())
        backbone = {
            name.removeprefix("bert."): parameter
            for name, parameter in parameters.items()
            if name.startswith("bert.")
        }
        base = {name: parameter.detach().clone() for name, parameter in backbone.items()}
        return TrainingJob(
            task="made_up",
            model=model,
            layout=Layout(
                fingerprint=fingerprint_tensors(base),
                names=tuple(base),
                shapes=tuple(tuple(tensor.shape) for tensor in base.values()),
            ),
            base=base,
            backbone=backbone,
            head={n: p for n, p in parameters.items() if n.startswith("classifier.")},
            n_batches=N_BATCHES,
            batches=lambda epoch: draw_epoch(seed, epoch, regression),
            loss=task_type("regression" if regression else "classification").loss,
            training=TrainingSettings(**SHORT | training),
            seed=seed,
        )

    return make


def draw_epoch(seed: int, epoch: int, regression: bool) -> Iterator[Batch]:
    """Draw batches of texts that begin with the word 5 or the word 6, which is the label."""
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    for _ in range(N_BATCHES):
        ids = torch.randint(10, 200, (N_ROWS, LENGTH), generator=generator)
        labels = torch.randint(0, 2, (N_ROWS,), generator=generator)
        ids[:, 0] = 5 + labels
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        yield Batch(inputs, labels.float() if regression else labels)
