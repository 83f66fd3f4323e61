"""Training through the quantiser: what the grid is, and that what is stored was trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from streamlab.diff.format.container import decode, encode
from streamlab.diff.vector import DiffVector
from streamlab.methods import BitFit, DiffPruning, FixedMaskTraining, NonAdaptive
from streamlab.methods.adam import AdamSettings
from streamlab.methods.api import Method, SparseChange, TrainingJob
from streamlab.methods.fixed_mask import FixedMask, FixedMaskMethod, train_fixed_mask
from streamlab.methods.masks.random import Random
from streamlab.methods.masks.selection import Selection
from streamlab.methods.quantizer import (
    GridType,
    HeadGridType,
    QuantizeSettings,
    TrainedHead,
    head_on_grid,
    on_grid,
)

MakeJob = Callable[..., TrainingJob]
TYPES: tuple[GridType, ...] = get_args(GridType)
LEVELS: dict[GridType, int] = {"sign": 1, "ternary": 1, "int2": 2, "int4": 8}
HEAD_LEVELS: dict[HeadGridType, int] = {"sign": 1, "int2": 2, "int4": 8, "int8": 128}
RATES = AdamSettings(learning_rate=0.05)

each_head_type = pytest.mark.parametrize("head_type", HEAD_LEVELS)
each_type = pytest.mark.parametrize("value_type", TYPES)
# A few tensors' values, each on a scale of its own, with zeros and exact repeats among them.
number = st.floats(-1, 1, width=32) | st.sampled_from([0.0, 0.5, -0.5, 1.0])
tensor = st.tuples(st.lists(number, max_size=20), st.floats(1e-6, 1e3))


def flat(tensors: list[tuple[list[float], float]]) -> tuple[torch.Tensor, list[int]]:
    values = [scale * value for tensor, scale in tensors for value in tensor]
    return torch.tensor(values, dtype=torch.float32), [len(tensor) for tensor, _ in tensors]


@pytest.mark.parametrize("value_type", [one for one in LEVELS if one != "ternary"])
@given(tensors=st.lists(tensor, min_size=1, max_size=4))
def test_quantised_values_are_few_multiples_of_one_scale_per_tensor(
    value_type: GridType, tensors: list[tuple[list[float], float]]
) -> None:
    values, counts = flat(tensors)

    quantised = on_grid(values, counts, value_type)

    assert quantised.dtype == torch.float32
    for part, given_part in zip(quantised.split(counts), values.split(counts), strict=True):
        magnitudes = part.abs().double()
        assert bool((magnitudes > 0).all())
        assert len(magnitudes.unique()) <= LEVELS[value_type]
        assert torch.equal(part < 0, given_part < 0)  # 0 counts as positive
        if part.numel():
            fits = [
                torch.allclose(magnitudes / step, (magnitudes / step).round(), atol=1e-5)
                for step in (magnitudes.min() / m for m in range(1, LEVELS[value_type] + 1))
            ]
            assert any(fits) or float(magnitudes.max()) < 1e-37


@each_type
@given(tensors=st.lists(tensor, min_size=1, max_size=4))
def test_what_is_on_the_grid_stays_as_it_is(
    value_type: GridType, tensors: list[tuple[list[float], float]]
) -> None:
    values, counts = flat(tensors)

    once = on_grid(values, counts, value_type)

    assert torch.equal(on_grid(once, counts, value_type), once)


def test_ternary_values_are_zero_or_one_magnitude_with_their_sign() -> None:
    values = torch.tensor([0.1, -1.5, 0.0, 2.5, -4.0, 0.2, 4.4])

    quantised = on_grid(values, [4, 3], "ternary")

    torch.testing.assert_close(quantised, torch.tensor([0.0, -2.0, 0.0, 2.0, -4.2, 0.0, 4.2]))


def test_one_bit_is_the_sign_times_the_mean_magnitude() -> None:
    values = torch.tensor([0.5, -1.5, 0.0, 2.0, -4.0])

    quantised = on_grid(values, [3, 2], "sign")

    torch.testing.assert_close(quantised, torch.tensor([2 / 3, -2 / 3, 2 / 3, 3.0, -3.0]))


def test_settings_are_written_as_they_are_read() -> None:
    given = {"type": "sign", "from": 0.25, "head": "int4"}
    settings = QuantizeSettings.model_validate(given)

    assert settings.start == 0.25
    assert settings.model_dump(mode="json") == given
    method = FixedMaskTraining.model_validate({"mask": "random", "quantize": given})
    assert method.model_dump()["quantize"] == given
    assert FixedMaskTraining.model_validate(method.model_dump()) == method


@pytest.mark.parametrize(
    "wrong",
    [
        *({"type": "int8"}, {"type": "sign", "from": 1.0}, {"from": 0.5}),
        *({"type": "sign", "start": 0}, {"type": "sign", "head": "fp16"}),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QuantizeSettings.model_validate(wrong)


def test_at_least_one_step_is_quantised() -> None:
    settings = QuantizeSettings.model_validate({"type": "sign", "from": 0.99})

    assert [settings.n_before(n) for n in (1, 2, 10, 1000)] == [0, 1, 9, 990]


def test_the_gradient_passes_straight_through() -> None:
    base = [torch.zeros(3, 4)]
    live = [nn.Parameter(torch.zeros(3, 4))]
    at = torch.tensor([1, 5, 10])
    start = torch.tensor([0.1, -0.3, 0.8])
    mask, plain = (FixedMask(live, base, Selection([at], [start.clone()])) for _ in range(2))
    mask.quantize("sign")

    torch.testing.assert_close(live[0].detach().view(-1)[at], torch.tensor([0.4, -0.4, 0.4]))
    gradient = torch.tensor([1.0, -2.0, 0.5])
    mask.step(gradient, RATES)
    plain.step(gradient, RATES)
    assert torch.equal(mask.values, plain.values)  # Adam moves the float32 values
    assert torch.equal(mask.entries(), on_grid(plain.values, [3], "sign"))


METHODS: dict[str, Callable[[QuantizeSettings], FixedMaskMethod]] = {
    "fixed mask": lambda q: FixedMaskTraining(
        mask=Random(), target_density=0.02, learning_rate=5e-2, quantize=q
    ),
    "shared": lambda q: FixedMaskTraining.model_validate(
        {"mask": "shared", "target_density": 0.02, "learning_rate": 5e-2, "quantize": q}
    ),
    "diff pruning": lambda q: DiffPruning(target_density=0.02, quantize=q),
    "non-adaptive": lambda q: NonAdaptive(target_density=0.02, quantize=q),
    "bitfit": lambda q: BitFit(learning_rate=0.05, quantize=q),
}


@each_type
@pytest.mark.parametrize("name", METHODS)
def test_what_is_stored_is_what_was_trained(
    name: str, value_type: GridType, make_job: MakeJob
) -> None:
    job = make_job()
    method: Method = METHODS[name](QuantizeSettings(type=value_type))
    trained = method.train(job)

    assert isinstance(trained, SparseChange)
    assert trained.summary.details["value_type"] == value_type
    diff = DiffVector(job.layout, trained.tensors, trained.head, {}, rule=trained.rule)
    stored = decode(encode(diff, value_type=value_type).data, job.layout)
    live = [p.detach().numpy() for p in job.backbone.values()]
    for mine, theirs, base, p in zip(
        trained.tensors, stored.tensors, job.base.values(), live, strict=True
    ):
        assert theirs == (mine if trained.rule else mine.without_zeros())
        rebuilt = base.numpy().copy()
        rebuilt.reshape(-1)[theirs.positions] += theirs.values
        assert rebuilt.tobytes() == p.tobytes()


def test_values_are_float_before_the_given_share_of_steps(make_job: MakeJob) -> None:
    job = make_job()
    shares: list[int] = []
    weight = job.backbone["encoder.layer.0.attention.self.query.weight"]
    base = job.base["encoder.layer.0.attention.self.query.weight"]

    def watch(_: object) -> None:
        change = (weight.detach() - base)[weight.detach() != base]
        shares.append(len((change.abs() * 1e5).round().unique()))

    object.__setattr__(job, "watch", watch)
    quantize = QuantizeSettings.model_validate({"type": "sign", "from": 0.5})
    trained = train_fixed_mask(
        job, Random(tensors="query"), 60, learning_rate=1e-2, quantize=quantize
    )

    assert trained.summary.details["first_quantized_step"] == 13
    assert min(shares[2:11]) > 10
    assert max(shares[12:]) <= 3  # one magnitude, apart from the rounding of the sum


def test_early_stopping_ends_on_quantised_values(make_job: MakeJob) -> None:
    job = make_job(patience=2, evaluate_every=2)
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    object.__setattr__(job, "validate", lambda: next(scores))
    method = METHODS["fixed mask"](QuantizeSettings(type="sign", head="sign"))
    trained = method.train(job)

    assert isinstance(trained, SparseChange)
    assert trained.summary.n_steps < 24
    for kept in trained.tensors:
        assert len(np.unique(np.abs(kept.values))) <= 1
    assert all(len(np.unique(np.abs(row))) == 1 for row in trained.head["classifier.weight"])


@each_head_type
def test_a_head_has_one_scale_per_row_and_biases_in_fp16(head_type: HeadGridType) -> None:
    weight = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    weight = weight * torch.tensor([[1.0], [1.0], [10.0]])
    weight[0] = 0

    quantised = head_on_grid(weight, head_type)

    for row, given_row in zip(quantised[1:], weight[1:], strict=True):
        assert len(row.abs().unique()) <= HEAD_LEVELS[head_type]
        assert torch.equal(row.sign(), given_row.sign())
    assert float(quantised[2].abs().max()) > 4 * float(quantised[1].abs().max())
    assert not quantised[0].any()  # the reference class of two
    assert torch.equal(head_on_grid(quantised, head_type), quantised)
    bias = torch.tensor([0.1, -0.2])
    assert torch.equal(head_on_grid(bias, head_type), bias.half().float())


def test_the_gradient_passes_straight_through_to_the_head() -> None:
    start = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    live, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    head, other = TrainedHead({"w": live}, 0.1), TrainedHead({"w": plain}, 0.1)
    head.quantize("sign")

    for parameter, trained in ((live, head), (plain, other)):
        parameter.grad = torch.ones_like(start)
        trained.step(0.5)

    assert torch.equal(head.values[0], plain.data)  # Adam moves the float32 values
    assert torch.equal(live.data, head_on_grid(plain.data, "sign"))


@each_head_type
def test_the_head_that_is_stored_is_the_head_that_was_trained(
    head_type: HeadGridType, make_job: MakeJob
) -> None:
    job = make_job()
    method = METHODS["fixed mask"](QuantizeSettings(type="sign", head=head_type))
    trained = method.train(job)

    assert isinstance(trained, SparseChange)
    assert trained.summary.details["head_type"] == head_type
    diff = DiffVector(job.layout, trained.tensors, trained.head, {}, rule=trained.rule)
    stored = decode(encode(diff, value_type="sign").data, job.layout)
    weight = stored.head["classifier.weight"]
    assert all(len(np.unique(np.abs(row))) <= HEAD_LEVELS[head_type] for row in weight)
    for name, parameter in job.head.items():
        assert stored.head[name].tobytes() == parameter.detach().numpy().tobytes()
