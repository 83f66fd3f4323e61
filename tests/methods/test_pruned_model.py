"""Pruning of the finetuned model: its schedule, its criteria, and what it keeps of each matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from streamlab.diff.layout import Layout
from streamlab.errors import TrainingError
from streamlab.methods import PrunedModel
from streamlab.methods.adam import adam_optimizer
from streamlab.methods.api import TrainingJob
from streamlab.methods.pruned_model import Criterion, GradualPruning

MakeJob = Callable[..., TrainingJob]
Matrix = NDArray[np.float64]

BERT = Layout(
    "ab" * 32,
    (
        "embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight",
        "encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.self.query.bias",
        "encoder.layer.11.output.dense.weight", "encoder.layer.11.output.LayerNorm.weight",
        "pooler.dense.weight",
    ),
    ((50, 8), (8,), (8, 8), (8,), (8, 12), (8,), (8, 8)),
)  # fmt: skip


class Adam:
    """Algorithm 1 of Kingma and Ba (2015) on one matrix, in float64."""

    def __init__(self, start: Matrix) -> None:
        self.value, self.mean, self.square = start.copy(), 0 * start, 0 * start
        self.t = 0

    def step(self, gradient: Matrix, rate: float) -> None:
        self.t += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        unbiased = self.mean / (1 - 0.9**self.t), self.square / (1 - 0.999**self.t)
        self.value = self.value - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)


def plain_training(
    start: Matrix, x: Matrix, y: Matrix, shares: list[float], criterion: Criterion
) -> tuple[Matrix, Matrix, Matrix]:
    """Fit x @ W'.T to y by pruning as the paper writes it; returns W, S and the last mask."""
    weight, score = Adam(start), Adam(np.zeros_like(start))
    mask = np.ones_like(start)
    for share in shares:
        residual = x @ (weight.value * mask).T - y
        gradient = 2 * residual.T @ x / residual.size
        of_score = gradient * weight.value
        weight.step(gradient * mask, 0.02)
        score.step(of_score, 0.01)
        ranked = np.abs(weight.value) if criterion == "magnitude" else score.value
        order = np.argsort(-ranked, axis=None, kind="stable")
        mask = np.zeros(start.size)
        mask[order[: max(1, round(share * start.size))]] = 1
        mask = mask.reshape(start.shape)
    return weight.value, score.value, mask


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
def test_a_criterion_is_that_of_a_plain_float64_implementation(criterion: Criterion) -> None:
    rng = np.random.default_rng(3)
    start, x = rng.normal(size=(6, 9)), rng.normal(size=(40, 9))
    y = x @ (rng.normal(size=(6, 9)) * (rng.random((6, 9)) < 0.3)).T
    method = PrunedModel(keep=0.2, dense_share=0.1, cooldown_share=0.2)
    shares = [method.kept_share(step, 60) for step in range(1, 61)]
    live = nn.Parameter(torch.from_numpy(start.copy()))
    pruning = GradualPruning([live], criterion)
    groups = [(pruning.weights, 0.02), (pruning.scores, 0.01)]
    _, step = adam_optimizer(*(group for group in groups if group[0]))
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(y)

    for share in shares:
        live.grad = None
        torch.autograd.backward(((inputs @ live.T - wanted) ** 2).mean())
        pruning.backward()
        step(1.0)
        pruning.prune(share)

    weight, score, mask = plain_training(start, x, y, shares, criterion)
    assert np.array_equal(pruning.masks[0].numpy(), mask.astype(bool))
    assert mask.sum() == round(0.2 * 54)
    np.testing.assert_allclose(pruning.weights[0].detach().numpy(), weight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(live.detach().numpy(), weight * mask, rtol=1e-9, atol=1e-12)
    if criterion == "movement":
        found = pruning.scores[0].detach().numpy()
        np.testing.assert_allclose(found, score, rtol=1e-9, atol=1e-12)
        largest = np.abs(weight) >= np.sort(np.abs(weight), axis=None)[-int(mask.sum())]
        assert (largest != mask.astype(bool)).any()  # it is another criterion


def test_a_score_rises_where_a_weight_moves_away_from_zero() -> None:
    live = nn.Parameter(torch.tensor([[2.0, 2.0, -2.0, -2.0]]))
    pruning = GradualPruning([live], "movement")
    _, step = adam_optimizer((pruning.weights, 0.1), (pruning.scores, 0.1))

    live.grad = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])  # up, down, up, down
    pruning.backward()
    step(1.0)

    moved = pruning.weights[0].detach().abs() > 2.0
    assert torch.equal(pruning.scores[0].detach() > 0, moved)
    assert moved.tolist() == [[True, False, False, True]]


def test_a_weight_that_is_pruned_by_movement_comes_back_where_its_score_does() -> None:
    live = nn.Parameter(torch.tensor([[1.0, 1.0]]))
    pruning = GradualPruning([live], "movement")
    _, step = adam_optimizer((pruning.weights, 1e-3), (pruning.scores, 0.1))
    kept = []

    for gradient in ([-1.0, 1.0], [4.0, -4.0], [4.0, -4.0], [4.0, -4.0]):
        live.grad = torch.tensor([gradient])
        pruning.backward()
        step(1.0)
        pruning.prune(0.5)
        kept.append(live.detach()[0].nonzero().item())

    assert kept[0] == 0
    assert kept[-1] == 1


@pytest.mark.parametrize("keep", [0.03, 0.15, 0.5, 1.0])
def test_the_kept_share_falls_as_a_cube_between_two_flat_parts(keep: float) -> None:
    method = PrunedModel(keep=keep, dense_share=0.1, cooldown_share=0.2)
    shares = [method.kept_share(step, 100) for step in range(1, 101)]

    # `schedule_threshold` of the paper's code, with its steps counted from 0
    published = []
    for step in range(1, 101):
        if step <= 10:
            published.append(1.0)
        elif step > 80:
            published.append(keep)
        else:
            left = 1 - (step - 10) / (100 - 30)
            published.append(keep + (1.0 - keep) * left**3)
    assert shares == pytest.approx(published, abs=1e-15)
    assert shares[79:] == [keep] * 21
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7])
def test_the_shortest_training_ends_at_the_kept_share(n_steps: int) -> None:
    for dense, cooldown in ((0.0, 0.0), (0.5, 0.4), (0.9, 0.0), (0.0, 0.9)):
        method = PrunedModel(keep=0.25, dense_share=dense, cooldown_share=cooldown)

        assert method.kept_share(n_steps, n_steps) == 0.25


def test_blocks_are_pruned_and_embeddings_kept_as_they_are() -> None:
    method = PrunedModel(keep=0.5)

    assert method.parts(BERT) == [
        "frozen", "frozen", "pruned", "dense", "pruned", "dense", "dense"
    ]  # fmt: skip
    assert method.expected_entries(BERT) == 32 + 8 + 48 + 8 + 64
    assert PrunedModel(keep=0.5, tensors="encoder|pooler").parts(BERT)[-1] == "pruned"


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("keep", [0.03, 0.15, 0.5])
def test_every_matrix_keeps_the_share_exactly(
    criterion: str, keep: float, make_job: MakeJob
) -> None:
    job = make_job()
    trained = PrunedModel.model_validate({"criterion": criterion, "keep": keep}).train(job)

    for name, tensor in zip(job.layout.names, trained.tensors, strict=True):
        now = job.backbone[name].detach()
        if name.startswith("embeddings."):
            assert len(tensor) == 0
            assert torch.equal(now, job.base[name])
        elif name.startswith("encoder.") and now.ndim == 2:
            assert len(tensor) == round(keep * now.numel())
            assert now.count_nonzero() == len(tensor)
        else:
            assert len(tensor) == now.numel()
    details = trained.summary.details
    assert details["n_kept"] == pytest.approx(keep * details["n_pruned"], rel=0.05)


def test_the_two_criteria_keep_different_weights(make_job: MakeJob) -> None:
    kept = [
        PrunedModel.model_validate({"criterion": criterion, "keep": 0.15}).train(make_job())
        for criterion in ("magnitude", "movement")
    ]

    assert any(
        not np.array_equal(one.positions, other.positions)
        for one, other in zip(kept[0].tensors, kept[1].tensors, strict=True)
    )


def test_magnitude_keeps_the_largest_weights_of_the_trained_model(make_job: MakeJob) -> None:
    job = make_job(learning_rate=1e-9)  # which leaves the base's own order
    trained = PrunedModel(criterion="magnitude", keep=0.15).train(job)

    for name, tensor in zip(job.layout.names, trained.tensors, strict=True):
        base = job.base[name].abs().reshape(-1)
        if 0 < len(tensor) < len(base):
            assert base[torch.from_numpy(tensor.positions.copy())].min() >= (
                base.sort(descending=True).values[len(tensor) - 1] - 1e-6
            )


def test_patience_ends_on_the_best_weights_at_the_kept_share(make_job: MakeJob) -> None:
    scores = iter([0.5, 0.9, 0.2, 0.1, 0.0])
    seen: list[dict[str, torch.Tensor]] = []
    made = make_job(patience=2, evaluate_every=1, epochs=12.0)

    def validate() -> float:
        seen.append({name: p.detach().clone() for name, p in made.backbone.items()})
        return next(scores)

    job = TrainingJob(**{**vars(made), "validate": validate})
    trained = PrunedModel(keep=0.15).train(job)

    assert len(seen) == 4  # the best, and two that are worse
    for name, tensor in zip(job.layout.names, trained.tensors, strict=True):
        best, now = seen[1][name], job.backbone[name].detach()
        assert torch.equal(best != 0, now != 0)
        assert torch.allclose(best, now, atol=1e-7)
        if name.startswith("encoder.") and now.ndim == 2:
            assert len(tensor) == round(0.15 * now.numel())


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"keep": 0.0}, "greater than 0"),
        ({"keep": 1.1}, "less than or equal to 1"),
        ({"criterion": "random"}, "magnitude"),
        ({"dense_share": 0.5, "cooldown_share": 0.5}, "must leave steps to prune in"),
        ({"tensors": "("}, "is not a regular expression"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PrunedModel(**wrong)


def test_a_base_without_matching_matrices_is_a_training_error(make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match=r"that 'nothing' matches.*method\.tensors"):
        PrunedModel(tensors="nothing").train(make_job())


def test_records_tell_the_criteria_apart() -> None:
    assert PrunedModel().label == "movement_pruning"
    assert PrunedModel(criterion="magnitude").label == "magnitude_pruning"
