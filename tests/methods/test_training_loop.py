"""The loop: what it feeds the model, when it gives up, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from streamlab.diff.layout import Layout
from streamlab.errors import TrainingError
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import Progress, TrainingJob, TrainingSettings
from streamlab.methods.training_loop import (
    TrainingLoop,
    ramp,
    seeded_dropout,
    training_attention,
    uses_bf16,
)
from streamlab.tasks.batches import Batch
from streamlab.tasks.types import task_type

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A model of one layer, which notes down the first number of every batch it sees."""

    def __init__(self, n_outputs: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Linear(3, n_outputs)
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> SimpleNamespace:
        self.seen.append(float(x[0, 0]))
        return SimpleNamespace(logits=self.layer(x))


def job(
    model: nn.Module, batches: list[Batch], watched: list[Progress] | None = None
) -> TrainingJob:
    """Return a job whose epoch n adds 100 n to every input."""

    def of_epoch(epoch: int) -> Iterator[Batch]:
        for rows in batches:
            yield Batch({"x": rows.inputs["x"] + 100.0 * epoch}, rows.labels)

    return TrainingJob(
        task="made_up",
        model=model,
        layout=Layout("", (), ()),
        base={},
        backbone={},
        head=dict(model.named_parameters()),
        n_batches=len(batches),
        batches=of_epoch,
        loss=functional.cross_entropy,
        training=TrainingSettings(precision="fp32"),
        seed=1,
        watch=(lambda _: None) if watched is None else watched.append,
    )


def numbered(n_batches: int) -> list[Batch]:
    return [
        Batch({"x": torch.full((4, 3), float(i))}, torch.zeros(4, dtype=torch.int64))
        for i in range(n_batches)
    ]


def test_epochs_follow_one_another_through_the_stages_without_an_end() -> None:
    model = Linear()
    loop = TrainingLoop(job(model, numbered(3)), 8)

    loop.run("one", [1.0] * 4, lambda _: None)
    loop.run("two", [1.0] * 4, lambda _: None)

    assert model.seen == [0.0, 1.0, 2.0, 100.0, 101.0, 102.0, 200.0, 201.0]


def test_a_step_is_taken_for_every_share_and_shown_to_the_watcher() -> None:
    watched: list[Progress] = []
    shares: list[float] = []
    densities = iter([0.5, 0.25, None])
    loop = TrainingLoop(job(Linear(), numbered(2), watched), 3)

    def take_step(share: float) -> float | None:
        shares.append(share)
        return next(densities)

    loop.run("gated", [1.0, 0.5], take_step)
    loop.run("fixed mask", [0.1], take_step)

    assert shares == [1.0, 0.5, 0.1]
    assert [(p.stage, p.step, p.n_steps, p.density) for p in watched] == [
        ("gated", 1, 3, 0.5), ("gated", 2, 3, 0.25), ("fixed mask", 3, 3, None)
    ]  # fmt: skip
    assert all(math.isfinite(p.loss) for p in watched)


def test_gradients_are_there_for_the_step_and_gone_after_it() -> None:
    model = Linear()
    rows = Batch({"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(1))},
                torch.tensor([0, 1, 0, 1]))  # fmt: skip
    expected = torch.autograd.grad(
        functional.cross_entropy(model.layer(rows.inputs["x"]), rows.labels), model.layer.weight
    )[0]
    found: list[Tensor | None] = []

    def take_step(_: float) -> None:
        found.append(model.layer.weight.grad)

    TrainingLoop(job(model, [rows, rows]), 1).run("one", [1.0], take_step)

    assert found[0] is not None
    torch.testing.assert_close(found[0], expected)
    assert [parameter.grad for parameter in model.parameters()] == [None, None]


def test_the_loss_is_that_of_the_job() -> None:
    model = Linear(n_outputs=1)
    rows = Batch({"x": torch.arange(12.0).reshape(4, 3)}, torch.tensor([0.0, 1.0, 2.5, 5.0]))
    watched: list[Progress] = []

    learnt = replace(job(model, [rows], watched), loss=task_type("regression").loss)
    TrainingLoop(learnt, 1).run("one", [1.0], lambda _: None)

    errors = (model.layer(rows.inputs["x"]).squeeze(-1) - rows.labels).detach()
    assert watched[0].loss == pytest.approx(float((errors**2).mean()), rel=1e-6)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_with_task_and_step(poison: float) -> None:
    batches = numbered(3)
    batches[2].inputs["x"][0, 0] = poison
    steps: list[float] = []
    loop = TrainingLoop(job(Linear(), batches), 7)
    loop.run("finetune", [1.0], lambda _: None)

    with pytest.raises(TrainingError) as caught:
        loop.run("gated", [1.0] * 5, steps.append)

    assert str(caught.value).startswith("The loss of `made_up` became nan at step 3 of 7 (gated).")
    assert "training.learning_rate" in str(caught.value)
    assert steps == [1.0]


def test_the_ramp_rises_over_the_warm_up_and_falls_in_a_straight_line() -> None:
    assert ramp(5, 0.4) == pytest.approx([1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3])
    assert ramp(4, 0.0) == [1.0, 0.75, 0.5, 0.25]


@settings(deadline=None, max_examples=100)
@given(n_steps=st.integers(1, 300), warmup_share=st.floats(0.0, 0.95))
def test_every_ramp_has_the_same_length_and_sum_whatever_the_warm_up(
    n_steps: int, warmup_share: float
) -> None:
    shares = ramp(n_steps, warmup_share)
    assume(round(n_steps * warmup_share) < n_steps)

    assert len(shares) == n_steps
    assert all(0.0 < share <= 1.0 for share in shares)
    assert max(shares) == 1.0
    assert sum(shares) == pytest.approx((n_steps + 1) / 2)


@pytest.mark.parametrize("n_steps", [0, 1])
def test_the_shortest_ramps_are_no_trouble(n_steps: int) -> None:
    assert ramp(n_steps, 0.1) == [1.0] * n_steps


def test_the_learning_rate_of_every_group_is_scaled_by_the_share() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer, take_step = adam_optimizer(([parameters[0]], 1e-2), ([parameters[1]], 1e-1))
    for parameter in parameters:
        parameter.grad = torch.ones(2)

    take_step(0.25)

    # The first step of Adam is the rate, whatever the gradient.
    assert parameters[0].tolist() == pytest.approx([-0.25e-2] * 2, rel=1e-5)
    assert parameters[1].tolist() == pytest.approx([-0.25e-1] * 2, rel=1e-5)
    take_step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 1e-1]


def test_there_is_no_weight_decay() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer, _ = adam_optimizer(([parameter], 0.1))
    parameter.grad = torch.zeros(2)

    optimizer.step()

    assert parameter.tolist() == [1.0, 1.0]


def test_dropout_comes_from_its_seed_and_the_global_generator_is_restored() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def dropped(seed: int) -> Tensor:
        with seeded_dropout(seed, CPU):
            return functional.dropout(torch.ones(100), 0.5)

    first = dropped(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(dropped(1), first)
    assert not torch.equal(dropped(2), first)


def test_the_global_generator_is_put_back_after_an_error_too() -> None:
    before = torch.get_rng_state()

    def draw_and_break() -> None:
        with seeded_dropout(1, CPU):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        draw_and_break()

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changed", "attention"),
    [({}, "eager"), ({"precision": "fp32"}, "sdpa"), ({"max_length": 512}, "sdpa")],
)
def test_short_texts_in_bf16_on_a_cpu_are_trained_with_plain_attention(
    changed: dict[str, Any], attention: str
) -> None:
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForSequenceClassification(config)
    training = TrainingSettings(**{"precision": "bf16", "max_length": 64, **changed})
    with training_attention(model, training, torch.device("cpu")):
        assert model.config._attn_implementation == attention
    assert model.config._attn_implementation == "sdpa"


def test_a_precision_that_is_asked_for_is_used() -> None:
    assert uses_bf16("bf16", CPU)
    assert not uses_bf16("fp32", CPU)


@pytest.mark.parametrize(
    ("epochs", "n_batches", "min_steps", "expected"),
    [(3.0, 100, 150, 300), (3.0, 10, 150, 150), (0.5, 31, 0, 16), (0.01, 10, 0, 1)],
)
def test_a_training_is_so_many_epochs_long_but_not_shorter_than_asked(
    epochs: float, n_batches: int, min_steps: int, expected: int
) -> None:
    assert TrainingSettings(epochs=epochs, min_steps=min_steps).n_steps(n_batches) == expected
