"""LoRA: PEFT's own file, from which alone the adapted model comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load

from streamlab.errors import TrainingError
from streamlab.methods import Lora
from streamlab.methods.api import TrainingJob
from streamlab.methods.lora import adapted
from streamlab.methods.training_loop import endless

MakeJob = Callable[..., TrainingJob]


def logits(model: torch.nn.Module, job: TrainingJob) -> torch.Tensor:
    batch = next(endless(job.batches))
    with torch.inference_mode():
        found: torch.Tensor = model(**batch.inputs).logits
    return found


def test_the_file_alone_brings_the_adapted_model_back(make_job: MakeJob) -> None:
    job, fresh = make_job(), make_job(2)
    plain = logits(fresh.model, job)

    trained = Lora(learning_rate=2e-2).train(job)

    with torch.no_grad():
        for head in fresh.head.values():
            head.fill_(7.0)  # the stored head is to replace it
    with adapted(fresh.model, trained.weights, trained.config) as model:
        again = logits(model, job)
    assert torch.equal(again, logits(job.model, job))
    assert not torch.equal(again, plain)


def test_the_file_holds_the_rank_that_was_asked_for_and_the_head(make_job: MakeJob) -> None:
    trained = Lora(r=3, target_modules=("query",)).train(make_job(epochs=0.5))

    tensors = load(trained.weights)
    ranks = {t.shape[0] for name, t in tensors.items() if ".lora_A" in name}
    assert ranks == {3}
    assert not any(".value." in name for name in tensors)
    assert {"base_model.model.classifier.weight", "base_model.model.classifier.bias"} <= set(
        tensors
    )
    assert trained.config["base_model_name_or_path"] is None


def test_layers_that_are_not_there_are_refused(make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="Name layers of the base in `target_modules`"):
        Lora(target_modules=("no_such_layer",)).train(make_job())
