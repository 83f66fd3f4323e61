"""What every method promises, whichever it is: one suite over all of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from streamlab.errors import TrainingError
from streamlab.hashing import canonical_json, fingerprint_tensors
from streamlab.methods import (
    BUILTIN,
    BitFit,
    DiffPruning,
    FixedMaskTraining,
    FullFinetuning,
    HeadOnly,
    Lora,
    MethodSettings,
    NonAdaptive,
    Peft,
    PrunedModel,
)
from streamlab.methods.api import (
    Adapter,
    Checkpoint,
    Method,
    Progress,
    SparseChange,
    TrainingJob,
    TrainingResult,
)
from streamlab.methods.masks.selection import budget
from streamlab.methods.training_loop import N_EVALUATIONS

MakeJob = Callable[..., TrainingJob]

DENSITY = 0.02
# A model this small needs bold steps to learn anything in 24 of them, and most before the mask.
SHARED: dict[str, Any] = {
    "target_density": DENSITY, "fixed_mask_learning_rate": 2e-2, "fixed_mask_share": 1 / 3
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "l0_coefficient": 1.25e-7, "gate_learning_rate": 0.1, "gate_epsilon": 1e-8,
    "dense_warmup_share": 0.0,
}  # fmt: skip


def peft(name: str, **settings: Any) -> Peft:
    return Peft.model_validate({"peft": {"type": name, **settings}, "learning_rate": 0.1})


METHODS: dict[str, Method] = {
    "structured": DiffPruning(**SHARED),
    "unstructured": DiffPruning(**SHARED, structured=False),
    "product": DiffPruning(**SHARED, penalty_form="product"),
    "fixed coefficient": DiffPruning(**SHARED, **PUBLISHED),
    "full finetuning": FullFinetuning(),
    "head only": HeadOnly(),
    "non-adaptive": NonAdaptive(**SHARED),
    **{
        mask["name"]: FixedMaskTraining(mask=mask, target_density=DENSITY, learning_rate=5e-2)
        for mask in (
            *({"name": name} for name in ("random", "magnitude", "gradient")),
            {"name": "fisher", "n_examples": 8},
            {"name": "change", "fixed_mask_share": 1 / 3},
            {"name": "rewound", "fixed_mask_share": 2 / 3},
            {"name": "rows", "share": 0.5, "by": {"name": "change", "fixed_mask_share": 2 / 3}},
            {"name": "learned", "fixed_mask_share": 1 / 3},
            {"name": "groups", "by": {"name": "gates", "fixed_mask_share": 1 / 3}},
            {"name": "counts", "by": "fisher"},
            {"name": "shared", "moves": 2},
            {"name": "candidates", "fixed_mask_share": 0.5, "learning_rate": 5e-2},
        )
    },
    "one bit": FixedMaskTraining(
        mask={"name": "random"},
        target_density=2 * DENSITY,
        learning_rate=5e-2,
        quantize={"type": "sign", "from": 0.5},
    ),
    "diff pruning in four bits": DiffPruning(**SHARED, quantize={"type": "int4"}),
    "bitfit": BitFit(learning_rate=0.05),
    **{
        f"{criterion} pruning": PrunedModel.model_validate({"criterion": criterion, "keep": 0.3})
        for criterion in ("magnitude", "movement")
    },
    "lora": Lora(learning_rate=0.1),
    "adalora": peft("adalora", init_r=8, target_r=4),
    "waveft": peft("waveft", n_frequency=200),
    "layer norm": peft("ln_tuning"),
}
BLIND = ("bitfit", "random", "magnitude", "shared", "one bit", "candidates")
ADAPTERS = ("lora", "adalora", "waveft", "layer norm")
FROZEN = ("head only", *ADAPTERS)  # the base's own weights
PRUNING = [name for name, method in METHODS.items() if isinstance(method, DiffPruning)]

each_method = pytest.mark.parametrize("name", METHODS)
each_pruning = pytest.mark.parametrize("name", PRUNING)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, with what it was given and what it showed on the way."""

    job: TrainingJob
    trained: TrainingResult
    base_before: str
    shown: list[Progress]


@pytest.fixture(scope="session")
def run(make_job: MakeJob) -> Callable[..., Run]:
    """Train by a method; the same request is answered once."""
    done: dict[str, Run] = {}

    def train(name: str, seed: int = 1, again: int = 0, **options: Any) -> Run:
        key = repr((name, seed, again, options))
        if key not in done:
            shown: list[Progress] = []
            job = dataclasses.replace(make_job(seed, **options), watch=shown.append)
            if again:  # evaluation on the way is not to matter either
                job = dataclasses.replace(job, held_back=lambda: evaluate(job.model))
            before = fingerprint_tensors(job.base)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(again)  # the global generator is not to matter
                done[key] = Run(job, METHODS[name].train(job), before, shown)
        return done[key]

    return train


def evaluate(model: torch.nn.Module) -> tuple[float, float]:
    """Evaluate a model on one text as providers do, and draw from the global generator."""
    assert not any(module.training for module in model.modules())
    with torch.inference_mode():
        answers = model(input_ids=torch.tensor([[5, 11, 12, 13]])).logits
    return float(answers.sum()), float(torch.rand(1))


def fingerprint(trained: TrainingResult) -> str:
    """Return one digest of everything that was learnt."""
    if isinstance(trained, Adapter):
        return hashlib.sha256(trained.data).hexdigest()
    learnt = {f"head.{name}": torch.from_numpy(array) for name, array in trained.head.items()}
    if isinstance(trained, Checkpoint):
        return fingerprint_tensors({**learnt, **trained.backbone})
    for i, tensor in enumerate(trained.tensors):
        learnt[f"{i}.positions"] = torch.from_numpy(tensor.positions.copy())
        learnt[f"{i}.values"] = torch.from_numpy(tensor.values.copy())
    return fingerprint_tensors(learnt)


def test_every_method_is_in_this_suite() -> None:
    assert {method.name for method in METHODS.values()} == set(BUILTIN)


@each_method
def test_a_method_is_found_by_its_name(name: str) -> None:
    method = METHODS[name]

    needed = {"fixed_mask": {"mask": "random"}, "peft": {"peft": {"type": "lora"}}}
    found = TypeAdapter(MethodSettings).validate_python(
        {"name": method.name, **needed.get(method.name, {})}
    )

    assert type(found) is type(method)


@each_method
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    name: str, run: Callable[..., Run]
) -> None:
    first = fingerprint(run(name).trained)

    assert fingerprint(run(name, again=1).trained) == first
    assert fingerprint(run(name, seed=2).trained) != first


@each_method
def test_the_curves_have_ten_evaluations_and_they_change_no_bit(
    name: str, run: Callable[..., Run]
) -> None:
    plain, evaluated = run(name), run(name, again=1)

    steps = [one.step for one in evaluated.shown if one.held_back_loss is not None]
    assert len(steps) == N_EVALUATIONS
    assert steps[-1] == evaluated.shown[-1].n_steps
    assert [one.loss for one in evaluated.shown] == [one.loss for one in plain.shown]
    assert fingerprint(evaluated.trained) == fingerprint(plain.trained)


@each_method
def test_the_base_is_not_changed(name: str, run: Callable[..., Run]) -> None:
    done = run(name)

    assert fingerprint_tensors(done.job.base) == done.base_before == done.job.layout.fingerprint


@each_method
def test_exactly_k_entries_are_retained(name: str, run: Callable[..., Run]) -> None:
    done = run(name)

    kinds = {"full finetuning": Checkpoint, **dict.fromkeys(ADAPTERS, Adapter)}
    assert type(done.trained) is kinds.get(name, SparseChange)
    if not isinstance(done.trained, SparseChange):
        return
    assert tuple(tensor.shape for tensor in done.trained.tensors) == done.job.layout.shapes
    k = 0 if name == "head only" else budget(DENSITY, done.job.layout.n_gated)
    if name == "one bit":
        k = budget(2 * DENSITY, done.job.layout.n_gated)
    if name == "shared":
        k = 2 * round(DENSITY * done.job.layout.n_gated / 2)
    if name == "bitfit":
        k = sum(p.numel() for n, p in done.job.backbone.items() if n.endswith("bias"))
    if name.endswith(" pruning"):
        trainable = {n: p for n, p in done.job.backbone.items() if not n.startswith("embeddings.")}
        k = sum(
            round(0.3 * p.numel()) if p.ndim == 2 and n.startswith("encoder.") else p.numel()
            for n, p in trainable.items()
        )
    assert sum(len(tensor) for tensor in done.trained.tensors) == k
    assert METHODS[name].expected_entries(done.job.layout) == k


@each_method
def test_what_is_returned_rebuilds_the_trained_backbone_bit_for_bit(
    name: str, run: Callable[..., Run]
) -> None:
    done = run(name)
    live = {n: p.detach().numpy() for n, p in done.job.backbone.items()}

    if isinstance(done.trained, Adapter):
        rebuilt = {n: tensor.numpy() for n, tensor in done.job.base.items()}
    elif isinstance(done.trained, Checkpoint):
        rebuilt = {n: tensor.numpy() for n, tensor in done.trained.backbone.items()}
    else:
        rebuilt = {n: tensor.numpy().copy() for n, tensor in done.job.base.items()}
        for tensor, sparse in zip(rebuilt.values(), done.trained.tensors, strict=True):
            new = tensor.reshape(-1)[sparse.positions] + sparse.values
            if done.trained.mode == "prune" and len(sparse):
                tensor[...] = 0
            tensor.reshape(-1)[sparse.positions] = new

    assert list(rebuilt) == list(live)
    assert all(rebuilt[n].tobytes() == live[n].tobytes() for n in live)


@each_method
def test_the_backbone_has_moved_unless_it_is_frozen(name: str, run: Callable[..., Run]) -> None:
    done = run(name)
    moved = {n: p.detach() for n, p in done.job.backbone.items()}

    assert (fingerprint_tensors(moved) != done.base_before) == (name not in FROZEN)


def test_a_frozen_backbone_costs_no_gradients(run: Callable[..., Run]) -> None:
    assert not any(p.requires_grad for p in run("head only").job.backbone.values())


@each_method
def test_the_trained_head_is_returned_as_it_is_in_the_model(
    name: str, run: Callable[..., Run], make_job: MakeJob
) -> None:
    done = run(name)

    if isinstance(done.trained, Adapter):  # it holds the head: tests/methods/test_adapters.py
        return
    assert done.trained.head.keys() == done.job.head.keys()
    for n, array in done.trained.head.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, done.job.head[n].detach().numpy())
        assert not np.array_equal(array, make_job().head[n].detach().numpy())
        assert not np.shares_memory(array, done.job.head[n].detach().numpy())


@each_method
def test_every_step_is_shown_and_the_task_is_learnt(name: str, run: Callable[..., Run]) -> None:
    done = run(name)
    n_steps = done.trained.summary.n_steps

    assert n_steps == done.job.training.n_steps(done.job.n_batches) == 24
    assert [(p.step, p.n_steps) for p in done.shown] == [(i + 1, n_steps) for i in range(n_steps)]
    losses = [p.loss for p in done.shown]
    if name != "head only":  # a random base gives a head no features, and biases little
        fall = 0.95 if name in BLIND else 0.85  # blind to the task
        assert np.mean(losses[-4:]) < fall * np.mean(losses[:4])
    assert not done.job.model.training


@each_method
def test_what_is_recorded_of_a_training_is_json(name: str, run: Callable[..., Run]) -> None:
    summary = run(name).trained.summary

    canonical_json(summary.details)
    lengths = [n for key, n in summary.details.items() if key.startswith("steps_")]
    assert sum(lengths) == (summary.n_steps if lengths else 0)


@each_method
def test_numbers_are_regressed_on(name: str, run: Callable[..., Run]) -> None:
    done = run(name, regression=True)

    if not isinstance(done.trained, Adapter):
        assert done.trained.head["classifier.weight"].shape == (1, 16)
        assert np.isfinite(done.trained.head["classifier.weight"]).all()
    assert np.mean([p.loss for p in done.shown[-4:]]) < np.mean([p.loss for p in done.shown[:4]])


@each_method
def test_a_loss_that_is_not_finite_is_a_training_error(name: str, make_job: MakeJob) -> None:
    job = make_job()
    with torch.no_grad():
        job.head["classifier.bias"].fill_(float("nan"))

    with pytest.raises(TrainingError, match="The loss of `made_up` became nan at step 1 of 24"):
        METHODS[name].train(job)


@each_pruning
def test_the_eager_step_keeps_the_same_promises(name: str, run: Callable[..., Run]) -> None:
    eager = run(name, step="eager")

    assert isinstance(eager.trained, SparseChange)
    k = budget(DENSITY, eager.job.layout.n_gated)
    assert sum(len(tensor) for tensor in eager.trained.tensors) == k
    assert fingerprint(run(name, step="eager", again=1).trained) == fingerprint(eager.trained)
    first, other = run(name).shown[0], eager.shown[0]
    assert first.loss == other.loss
    assert eager.shown[-1].loss == pytest.approx(run(name).shown[-1].loss, abs=0.1)


@each_pruning
def test_densities_are_shown_while_there_are_gates(name: str, run: Callable[..., Run]) -> None:
    done = run(name)
    details = done.trained.summary.details

    gated = [p.density for p in done.shown if p.stage == "gated"]
    assert len(gated) == details["steps_gated"]
    assert all(type(density) is float and 0.0 < density <= 1.0 for density in gated)
    assert gated[-1] == details["density_before_correction"]
    assert all(p.density is None for p in done.shown if p.stage != "gated")
    assert [p.stage for p in done.shown[-details["steps_fixed_mask"] :]] == (
        ["fixed mask"] * details["steps_fixed_mask"]
    )


@each_pruning
def test_gates_end_at_the_goal_and_the_published_coefficient_closes_hardly_any(
    name: str, run: Callable[..., Run]
) -> None:
    density = run(name).trained.summary.details["expected_density"]

    if name == "fixed coefficient":
        assert density > 0.9
    else:
        method = METHODS[name]
        goal = method.candidate_ratio * method.target_density
        assert density == pytest.approx(goal, rel=0.006)


def test_more_entries_than_have_moved_cannot_be_retained(make_job: MakeJob) -> None:
    # Words that no text holds have no gradient, and stay where they are.
    with pytest.raises(TrainingError, match=r"only \d+ have changed"):
        NonAdaptive(target_density=1.0).train(make_job(epochs=1.5))


@pytest.mark.parametrize(
    "method", [DiffPruning(target_density=1e-6), NonAdaptive(target_density=1e-6)]
)
def test_at_least_one_entry_is_retained(method: Method, make_job: MakeJob) -> None:
    trained = method.train(make_job(epochs=1.5))

    assert isinstance(trained, SparseChange)
    assert sum(map(len, trained.tensors)) == 1


@pytest.mark.parametrize("method", [DiffPruning(), NonAdaptive()])
def test_a_training_too_short_to_learn_anything_is_a_training_error(
    method: Method, make_job: MakeJob
) -> None:
    with pytest.raises(TrainingError, match=r"only 0 have changed"):
        method.train(make_job(epochs=0.1))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"target_density": 0.0}, "greater than 0"),
        ({"target_density": 1.5}, "less than or equal to 1"),
        ({"candidate_ratio": 0.5}, "greater than or equal to 1"),
        (
            {"dense_warmup_share": 0.0},
            "raise `dense_warmup_share` above 0, or give a number as `l0_coefficient`",
        ),
        ({"l0_coefficient": -1.0}, "greater than 0"),
        ({"l0_coefficient": "steady"}, "auto"),
        ({"fixed_mask_share": 1.0}, "less than 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DiffPruning(**wrong)


def test_a_preset_gives_what_is_left_out_and_nothing_else() -> None:
    paper = DiffPruning.model_validate({"preset": "paper", "gate_learning_rate": 0.2})
    text = DiffPruning.model_validate({"preset": "paper-text"})

    assert (paper.l0_coefficient, paper.gate_epsilon, paper.dense_warmup_share) == (
        1.25e-7,
        1e-8,
        0.0,
    )
    assert paper.gate_learning_rate == 0.2
    assert (paper.penalty_form, text.penalty_form) == ("additive", "product")
    assert (text.stretch.low, text.stretch.high, text.initial_log_alpha) == (-1.5, 1.5, 5.0)
    assert DiffPruning.model_validate(text.model_dump()) == text
