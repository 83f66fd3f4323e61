"""Diff pruning with the `Trainer` of `transformers`: callbacks, evaluation, checkpoints, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    TrainerCallback,
)

from streamlab.diff.checkpoints import PretrainedDiff
from streamlab.errors import UsageError
from streamlab.methods.pruner import DiffPruner
from streamlab.methods.trainer import DiffPruningConfig, DiffPruningTrainer

N_STEPS = 24
METHOD = {"target_density": 0.02}


@pytest.fixture
def model(tiny_sizes: dict[str, Any]) -> BertForSequenceClassification:
    return new_model(tiny_sizes)


def new_model(tiny_sizes: dict[str, Any]) -> BertForSequenceClassification:
    config = BertConfig(
        **tiny_sizes | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertForSequenceClassification(config)


def examples(n: int = 64) -> list[dict[str, Any]]:
    ids = torch.randint(10, 60, (n, 8), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(n) % 2
    ids[:, 0] = 5 + labels
    return [{"input_ids": i, "labels": int(label)} for i, label in zip(ids, labels, strict=True)]


def config(folder: Path, **given: Any) -> DiffPruningConfig:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": N_STEPS, "per_device_train_batch_size": 8,
        "learning_rate": 3e-3, "method_settings": METHOD, "seed": 3, "report_to": "none",
        "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
    }  # fmt: skip
    return DiffPruningConfig(**settings | given)


def trained(model: Any, folder: Path, *, resume: str | None = None, **given: Any) -> Any:
    callbacks = given.pop("callbacks", None)
    trainer = DiffPruningTrainer(
        model,
        config(folder, **given),
        train_dataset=examples(),
        eval_dataset=examples(16),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def same(one: PretrainedDiff, other: PretrainedDiff) -> bool:
    heads = all(np.array_equal(one.head[n], other.head[n]) for n in one.head)
    return one.tensors == other.tensors and heads


def test_the_trainer_gives_the_diff_of_a_loop_of_ones_own(
    tiny_sizes: dict[str, Any], tmp_path: Path
) -> None:
    trainer = trained(new_model(tiny_sizes), tmp_path)
    model = new_model(tiny_sizes)
    pruner = DiffPruner(model, n_steps=N_STEPS, training=trainer.args.training(), seed=3, **METHOD)
    model.train()
    # The trainer's own order of examples.
    again = DiffPruningTrainer(new_model(tiny_sizes), trainer.args, train_dataset=examples())
    torch.manual_seed(3)
    loader = again.get_train_dataloader()
    while pruner.n_steps_left:
        for batch in loader:
            model(**batch).loss.backward()
            pruner.step()
    assert same(trainer.finish(), pruner.finish())


@pytest.mark.parametrize("at", [4, 12, 20, N_STEPS])
def test_a_training_goes_on_from_a_checkpoint_bit_for_bit(
    tiny_sizes: dict[str, Any], tmp_path: Path, at: int
) -> None:
    whole = trained(new_model(tiny_sizes), tmp_path, save_strategy="steps", save_steps=at).finish()
    checkpoint = str(tmp_path / f"checkpoint-{at}")
    resumed = trained(new_model(tiny_sizes), tmp_path / "again", resume=checkpoint)
    assert same(whole, resumed.finish())


def test_callbacks_see_every_step_and_evaluation_works(
    model: BertForSequenceClassification, tmp_path: Path
) -> None:
    steps, losses = [], []

    class Watching(TrainerCallback):
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            steps.append(state.global_step)

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            losses.append(metrics["eval_loss"])

    trained(model, tmp_path, callbacks=[Watching()], eval_strategy="steps", eval_steps=8)
    assert steps == list(range(1, N_STEPS + 1))
    assert losses[-1] < losses[0]


def test_accumulated_batches_are_one_step(tiny_sizes: dict[str, Any], tmp_path: Path) -> None:
    method = {"method": "fixed_mask", "method_settings": {"mask": "random"} | METHOD}
    one = trained(
        new_model(tiny_sizes), tmp_path, max_steps=8, per_device_train_batch_size=16,
        clip_norm=1e9, **method,
    )  # fmt: skip
    four = trained(
        new_model(tiny_sizes), tmp_path, max_steps=8, per_device_train_batch_size=4,
        gradient_accumulation_steps=4, clip_norm=1e9, **method,
    )  # fmt: skip
    losses = [trainer.state.log_history[-1]["train_loss"] for trainer in (one, four)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    pairs = zip(one.finish().tensors, four.finish().tensors, strict=True)
    assert all(np.allclose(a.dense(), b.dense(), atol=1e-3) for a, b in pairs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_grad_norm": 2.0}, "does not use `max_grad_norm`, which is 2.0. Set `clip_norm`"),
        ({"warmup_steps": 5}, "Set `warmup_share`"),
        ({"weight_decay": 0.1}, "`weight_decay`, which is 0.1. Leave it out"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        config(tmp_path, **given)


def test_an_optimizer_of_ones_own_is_refused(
    model: BertForSequenceClassification, tmp_path: Path
) -> None:
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(UsageError, match="has its own optimiser"):
        DiffPruningTrainer(model, config(tmp_path), optimizers=(adam, None))


def test_there_is_no_diff_before_the_training(
    model: BertForSequenceClassification, tmp_path: Path
) -> None:
    trainer = DiffPruningTrainer(model, config(tmp_path), train_dataset=examples())
    with pytest.raises(UsageError, match="Call `train` before `finish`"):
        trainer.finish()
