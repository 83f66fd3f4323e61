"""Diff pruning in the caller's loop gives what a scenario's training gives."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTForImageClassification

from streamlab.config import ConfigError
from streamlab.diff.checkpoints import PretrainedDiff
from streamlab.diff.format.values import ValueType
from streamlab.diff.vector import DiffVector
from streamlab.errors import TrainingError, UsageError
from streamlab.methods import MethodSettings
from streamlab.methods.api import FileTypes, Method, SparseChange, TrainingJob
from streamlab.methods.pruner import DiffPruner
from streamlab.methods.training_loop import batch_loss, endless, set_dropout
from streamlab.tasks.batches import Batch

MakeJob = Callable[..., TrainingJob]
METHODS: dict[str, dict[str, Any]] = {
    "diff_pruning": {"name": "diff_pruning", "target_density": 0.01},
    "published": {"name": "diff_pruning", "preset": "paper", "target_density": 0.05},
    "change": {"name": "non_adaptive", "target_density": 0.01},
    "shared": {"name": "fixed_mask", "target_bytes": 1000},
    "candidates": {
        "name": "fixed_mask", "mask": "candidates", "target_density": 0.02,
        "quantize": {"type": "sign", "from": 0.4, "head": "int4"},
    },
    "groups": {"name": "fixed_mask", "mask": "groups", "target_density": 0.05},
    "fisher": {"name": "fixed_mask", "mask": "fisher", "target_density": 0.05},
    "bitfit": {"name": "bitfit"},
}  # fmt: skip


def without_dropout(make_job: MakeJob) -> TrainingJob:
    """Return a job whose epochs have the same texts, which lack some of the words."""
    job = make_job()
    set_dropout(job.model, 0.0)
    assert job.batches is not None
    texts = list(job.batches(0))
    return replace(job, batches=lambda _: iter(texts))


def pruner_of(job: TrainingJob, method: dict[str, Any]) -> DiffPruner:
    return DiffPruner(
        job.model,
        n_steps=job.loop.n_steps,
        method=method,
        training=job.training.model_dump(exclude_defaults=True),
        seed=job.seed,
        batches=job.batches,
        loss=job.loss,
    )


def take_steps(
    job: TrainingJob, pruner: DiffPruner, batches: Iterator[Batch] | None = None
) -> DiffPruner:
    batches = batches or endless(job.batches)
    while pruner.n_steps_left:
        batch_loss(job.model, next(batches), job.training, job.loss).backward()
        pruner.step()
    return pruner


def trained_by_scenario(job: TrainingJob, method: dict[str, Any]) -> DiffVector:
    def file_bytes(trained: SparseChange, types: FileTypes) -> int:
        return trained.file_bytes(job.layout, {}, types)

    built: Method = TypeAdapter(MethodSettings).validate_python(method)
    trained = built.train(replace(job, file_bytes=file_bytes))
    assert isinstance(trained, SparseChange)
    return trained.diff(job.layout, {})


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_of_ones_own_gives_the_diff_of_a_scenario_bit_for_bit(
    make_job: MakeJob, name: str
) -> None:
    expected = trained_by_scenario(without_dropout(make_job), METHODS[name])
    job = without_dropout(make_job)
    found = take_steps(job, pruner_of(job, METHODS[name])).finish()
    assert found.tensors == expected.tensors
    assert found.rule == expected.rule
    assert {n: h.tobytes() for n, h in found.head.items()} == {
        n: h.tobytes() for n, h in expected.head.items()
    }


@pytest.mark.parametrize(
    ("name", "share"),
    [
        *(("diff_pruning", share) for share in (0.0, 0.1, 0.3, 0.8, 1.0)),
        *(("candidates", share) for share in (0.1, 0.3, 0.5, 0.9, 1.0)),
        *(("groups", share) for share in (0.3, 0.8)),
        *(("shared", share) for share in (0.2, 0.8, 1.0)),
        ("change", 0.2),
    ],
)
def test_a_pruner_goes_on_bit_for_bit_where_another_one_was(
    make_job: MakeJob, tmp_path: Path, name: str, share: float
) -> None:
    # At these shares of the steps the methods are in stages of theirs of every kind.
    job = without_dropout(make_job)
    pruner = pruner_of(job, METHODS[name])
    n_before = round(share * job.loop.n_steps)
    batches = endless(job.batches)
    for _ in range(n_before):
        batch_loss(job.model, next(batches), job.training, job.loss).backward()
        pruner.step()
    torch.save(pruner.state_dict(), tmp_path / "state.pt")
    expected = take_steps(job, pruner, batches).finish()

    job = without_dropout(make_job)
    resumed = pruner_of(job, METHODS[name])
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    batches = endless(job.batches)
    for _ in range(n_before):
        next(batches)
    found = take_steps(job, resumed, batches).finish()
    assert found.tensors == expected.tensors
    if share < 1.0:
        assert resumed._job.loop.summary() == pruner._job.loop.summary()
    assert all(np.array_equal(found.head[n], expected.head[n]) for n in expected.head)


def test_a_pruner_goes_back_to_an_earlier_step(make_job: MakeJob) -> None:
    job = without_dropout(make_job)
    pruner = pruner_of(job, METHODS["diff_pruning"])
    early = copy.deepcopy(pruner.state_dict())
    expected = take_steps(job, pruner).finish()
    pruner.load_state_dict(early)
    batches = endless(job.batches)
    while pruner.stage != "fixed mask":
        batch_loss(job.model, next(batches), job.training, job.loss).backward()
        pruner.step()
    pruner.load_state_dict(early)
    assert take_steps(job, pruner).finish().tensors == expected.tensors


def test_a_state_of_other_settings_is_refused() -> None:
    _, pruner = trained_perceptron(n_steps=10)
    with pytest.raises(UsageError, match="another number of steps: 10, and here it is 20"):
        trained_perceptron(n_steps=20)[1].load_state_dict(pruner.state_dict())


@pytest.mark.parametrize("values", [None, "sign"])
def test_the_model_holds_the_weights_of_the_diff(
    make_job: MakeJob, values: ValueType | None
) -> None:
    job = without_dropout(make_job)
    pruner = take_steps(job, pruner_of(job, METHODS["diff_pruning"]))
    diff = pruner.finish(values=values, head="fp16" if values else None)
    for (name, parameter), tensor in zip(job.backbone.items(), diff.tensors, strict=True):
        expected = job.base[name] + torch.from_numpy(tensor.dense())
        assert torch.equal(parameter, expected), name
    for name, parameter in job.head.items():
        assert np.array_equal(parameter.detach().numpy(), diff.head[name])


class Perceptron(nn.Module):
    """Two layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.body(x))
        return answer


def signs(n: int = 64) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def trained_perceptron(**given: Any) -> tuple[Perceptron, DiffPruner]:
    model = Perceptron()
    pruner = DiffPruner(model, head=["head"], **{"n_steps": 60, "target_density": 0.1} | given)
    x, y = signs()
    while pruner.n_steps_left:
        functional.cross_entropy(model(x), y).backward()
        pruner.step()
    return model, pruner


def test_a_plain_module_is_trained_and_its_file_is_read_again(tmp_path: Path) -> None:
    model, pruner = trained_perceptron(
        training={"learning_rate": 1e-2, "head_learning_rate": 1e-2},
        fixed_mask_learning_rate=1e-2,
        task={"name": "signs"},
    )
    diff = pruner.finish()
    x, y = signs()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.8
    assert diff.n_entries == round(0.1 * diff.n_gated)
    path = tmp_path / "signs.sldiff"
    diff.save(path, value_type="fp32")
    assert PretrainedDiff.load(path, base=diff.layout).tensors == diff.tensors


def test_a_vision_model_of_the_library_needs_no_names() -> None:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=8, patch_size=4, num_labels=2,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    pruner = DiffPruner(model, n_steps=6, target_density=0.05)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    while pruner.n_steps_left:
        model(images, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        pruner.step()
    assert set(pruner.finish().head) == {"classifier.weight", "classifier.bias"}


def test_gradients_that_accumulate_are_one_step() -> None:
    model, pruner = trained_perceptron(n_steps=10)
    whole = pruner.finish()
    model = Perceptron()
    pruner = DiffPruner(model, head=["head"], n_steps=10, target_density=0.1)
    x, y = signs()
    while pruner.n_steps_left:
        for part in (slice(0, 32), slice(32, 64)):
            (functional.cross_entropy(model(x[part]), y[part]) / 2).backward()
        pruner.step()
    for one, other in zip(whole.tensors, pruner.finish().tensors, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.allclose(one.values, other.values, atol=1e-6)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained_perceptron(n_steps=4)
    assert torch.equal(torch.rand(3), expected)


def test_what_was_trainable_before_is_trainable_afterwards() -> None:
    model, pruner = trained_perceptron(n_steps=4, method="fixed_mask", mask={"name": "random"})
    pruner.finish()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_stage_and_density_are_those_of_the_last_step() -> None:
    seen = []
    _, pruner = trained_perceptron(n_steps=10, watch=seen.append)
    assert [s.step for s in seen] == list(range(1, 11))
    assert pruner.stage == seen[-1].stage == "fixed mask"
    assert [s.density is not None for s in seen if s.stage == "gated"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n_steps": 0}, "`n_steps` is 0"),
        ({"head": ["classifier"]}, "no such module or parameter. Its modules: body, head."),
        ({"head": None}, "whose head is known"),
        ({"head": ["body", "head"]}, "none is left to prune"),
        ({"method": "full_finetuning"}, "in a file of another kind"),
        ({"target_density": 2.0}, "target_density"),
        ({"method": "fixed_mask", "mask": "fisher"}, "give `batches` and `loss`"),
    ],
)
def test_what_cannot_be_pruned_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises((UsageError, ConfigError), match=re.escape(said)):
        DiffPruner(Perceptron(), **{"n_steps": 4, "head": ["head"]} | given)


def test_other_types_than_float32_are_refused() -> None:
    with pytest.raises(UsageError, match="is bfloat16"):
        DiffPruner(Perceptron().bfloat16(), n_steps=4, head=["head"])


def test_a_step_needs_gradients_and_a_step_that_is_left() -> None:
    model = Perceptron()
    pruner = DiffPruner(model, head=["head"], n_steps=1, method="bitfit")
    with pytest.raises(UsageError, match="No parameter has a gradient"):
        pruner.step()
    with pytest.raises(UsageError, match="0 of 1 step are taken"):
        pruner.finish()
    x, y = signs()
    functional.cross_entropy(model(x), y).backward()
    pruner.step()
    with pytest.raises(UsageError, match="All 1 step are taken"):
        pruner.step()


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    model = Perceptron()
    pruner = DiffPruner(model, head=["head"], n_steps=2)
    loss = functional.cross_entropy(model(signs()[0]) * torch.inf, signs()[1])
    loss.backward()
    with pytest.raises(TrainingError, match="became nan"):
        pruner.step(loss)


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/guides/own-loop.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(example, {})  # noqa: S102 - the guide's own code
    assert (tmp_path / "task.sldiff").stat().st_size > 0
