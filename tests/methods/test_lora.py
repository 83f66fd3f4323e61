"""LoRA: PEFT's own file, from which alone the adapted model comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from base_kinds import WORDS, save_kind
from safetensors.torch import load, save

from streamlab.base import BaseSettings, load_base
from streamlab.errors import DiffError, TrainingError
from streamlab.methods import Lora
from streamlab.methods.api import TrainingJob, TrainingSettings
from streamlab.methods.lora import adapted
from streamlab.methods.training_loop import endless
from streamlab.tasks.batches import encode, n_batches, training_batches
from streamlab.tasks.examples import Example
from streamlab.tasks.types import task_type

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


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"r": 50_000_000}, "`r`: Input should be less than or equal"),
        ({"r": 64}, "rank `r` is 64, and `.*lora_A.weight` has the shape"),
        ({"r": "8"}, "`r`: Input should be a valid integer"),
        ({"lora_alpha": float("inf")}, "`lora_alpha"),
        ({"rank_pattern": {".*": 50_000_000}}, "`rank_pattern` must be left out"),
        ({"layer_replication": [[0, 10_000]]}, "`layer_replication` must be left out"),
        ({"init_lora_weights": "eva"}, "`init_lora_weights` must be left out"),
        ({"auto_mapping": {"parent_library": "os"}}, "`auto_mapping` must be left out"),
        ({"no_setting": 1}, "`no_setting` must be left out"),
        ({"peft_type": "IA3"}, "`peft_type`: Input should be 'LORA'"),
        ({"target_modules": "(a+)+$"}, "`target_modules`: Input should be a valid list"),
        ({"target_modules": ["no_such_layer"]}, "does not fit the model"),
        ({"target_modules": ["query", "dense"]}, "and the model needs it as"),
        ({"base_model_name_or_path": "https://example.org"}, "`base_model_name_or_path`"),
    ],
)
def test_settings_that_ask_for_more_than_the_file_holds_never_reach_peft(
    make_job: MakeJob, change: dict[str, Any], problem: str
) -> None:
    trained = Lora(target_modules=("query",)).train(make_job(epochs=0.1))

    with (
        pytest.raises(DiffError, match=problem),
        adapted(make_job(2).model, trained.weights, {**trained.config, **change}),
    ):
        pass


def test_an_adapter_without_its_head_is_refused(make_job: MakeJob) -> None:
    trained = Lora(target_modules=("query",)).train(make_job(epochs=0.1))
    tensors = {n: t for n, t in load(trained.weights).items() if "classifier" not in n}

    with (
        pytest.raises(DiffError, match=r"does not fit the model: .*classifier.weight"),
        adapted(make_job(2).model, save(tensors), trained.config),
    ):
        pass


def test_layers_that_are_not_there_are_refused(make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="Name layers of the base in `target_modules`"):
        Lora(target_modules=("no_such_layer",)).train(make_job())


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("BERT", "auto"),
        ("DeBERTa-v2", "auto"),
        ("ModernBERT", ("Wqkv",)),
        ("T5", "auto"),
        ("GPT-2", "auto"),
        ("DistilBERT", ("q_lin",)),
    ],
)
def test_the_whole_head_of_every_architecture_is_stored(
    kind: str, layers: Literal["auto"] | tuple[str, ...], tmp_path: Path
) -> None:
    save_kind(tmp_path, kind)
    base = load_base(BaseSettings(model=str(tmp_path)), seed=1)
    model = base.classifier(n_outputs=2, seed=1)
    parameters = dict(model.named_parameters())
    examples = [Example(f"the {word} film", None, place % 2) for place, word in enumerate(WORDS)]
    task = task_type("classification")
    encoded = encode(examples, base.tokenizer, task, max_length=8)
    job = TrainingJob(
        task="mood",
        model=model,
        layout=base.layout,
        base=base.tensors,
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.head_names},
        n_batches=n_batches(encoded, 8),
        batches=lambda epoch: training_batches(encoded, batch_size=8, seed=1, epoch=epoch),
        loss=task.loss,
        training=TrainingSettings(batch_size=8, max_length=8, min_steps=3, epochs=1, threads=1),
        seed=1,
    )

    trained = Lora(target_modules=layers).train(job)

    stored = {name for name in load(trained.weights) if ".lora_" not in name}
    assert stored == {f"base_model.model.{name}" for name in base.head_names}
    with adapted(base.classifier(n_outputs=2, seed=9), trained.weights, trained.config) as again:
        assert torch.equal(logits(again, job), logits(model.eval(), job))
