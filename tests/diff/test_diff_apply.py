from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from streamlab.diff.apply import applied, apply, plan
from streamlab.diff.format.container import decode, encode
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
MODELS: dict[str, Callable[[int], PreTrainedModel]] = {
    "bert": lambda n: BertForSequenceClassification(BertConfig(**SMALL, num_labels=n)),
    "roberta": lambda n: RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=n)),
    "electra": lambda n: ElectraForSequenceClassification(
        ElectraConfig(**SMALL, embedding_size=8, num_labels=n)
    ),
    "deberta": lambda n: DebertaV2ForSequenceClassification(
        DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["c2p"], num_labels=n)
    ),
    "distilbert": lambda n: DistilBertForSequenceClassification(
        DistilBertConfig(
            dim=16, hidden_dim=24, n_layers=2, n_heads=2, vocab_size=60, num_labels=n,
            max_position_embeddings=20,
        )
    ),
}  # fmt: skip


def build(kind: str, dtype: torch.dtype = torch.float32, n_labels: int = 2) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[kind](n_labels).to(dtype).eval()


def backbone_of(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    prefix = model.base_model_prefix + "."
    return {
        name.removeprefix(prefix): parameter
        for name, parameter in model.named_parameters()
        if name.startswith(prefix)
    }


def diff_for(
    model: PreTrainedModel,
    *,
    density: float = 0.1,
    seed: int = 0,
    n_labels: int = 2,
    scale: float = 0.1,
) -> DiffVector:
    rng = np.random.default_rng(seed)
    backbone = backbone_of(model)
    shapes = tuple(tuple(parameter.shape) for parameter in backbone.values())
    layout = Layout("ab" * 32, tuple(backbone), shapes)
    tensors = []
    for shape in shapes:
        positions = np.flatnonzero(rng.random(shape) < density)
        values = (rng.normal(size=len(positions)) * scale).astype(np.float32)
        tensors.append(SparseTensor(shape, positions, values))
    head = {}
    for name, parameter in model.named_parameters():
        if not name.startswith(model.base_model_prefix + "."):
            outputs = n_labels if parameter.shape[0] == 2 else parameter.shape[0]
            shape = (outputs, *parameter.shape[1:])
            head[name] = rng.normal(size=shape).astype(np.float32)
    return DiffVector(layout, tuple(tensors), head, {})


def bits(model: nn.Module) -> dict[str, bytes]:
    return {
        name: tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for name, tensor in model.state_dict().items()
    }


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=torch.arange(5, 13).view(2, 4)).logits
    return out


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_apply_adds_the_diff_and_revert_leaves_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    model = build(kind, dtype)
    diff = diff_for(model)
    before, base = bits(model), {n: p.detach().clone() for n, p in backbone_of(model).items()}

    on = apply(model, diff)

    for name, tensor in zip(diff.layout.names, diff.tensors, strict=True):
        expected = (base[name].float() + torch.from_numpy(tensor.dense())).to(dtype)
        assert torch.equal(backbone_of(model)[name], expected), name
    parameters = dict(model.named_parameters())
    for name, array in diff.head.items():
        assert torch.equal(parameters[name], torch.from_numpy(array.copy()).to(dtype)), name
    assert 0 < on.n_changed <= diff.n_entries
    if dtype == torch.float32:
        assert on.n_changed == diff.n_entries
    on.revert()
    assert bits(model) == before


@pytest.mark.parametrize("kind", MODELS)
def test_a_task_with_more_labels_widens_the_head_and_leaves_it_as_it_was(kind: str) -> None:
    model = build(kind)
    before, bare = bits(model), logits(model)

    with applied(model, diff_for(model, n_labels=5)):
        assert logits(model).shape == (2, 5)
        widths = [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]
        assert 5 in widths

    assert bits(model) == before
    assert torch.equal(logits(model), bare)
    assert 5 not in [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("kind", MODELS)
def test_the_stored_file_serves_as_the_diff_does(kind: str) -> None:
    model = build(kind)
    diff = diff_for(model)
    with applied(model, diff):
        expected = logits(model)

    stored = decode(encode(diff, value_type="fp32").data, diff.layout)

    with applied(model, stored):
        assert torch.equal(logits(model), expected)


def test_subtracting_would_not_restore_the_bits_but_revert_does() -> None:
    """Show that the test of revert can fail: the same weights, taken off by subtraction."""
    model = build("bert")
    diff = diff_for(model, scale=3.0)
    before = bits(model)

    on = apply(model, diff)
    restored = {
        name: parameter.detach() - torch.from_numpy(tensor.dense())
        for (name, parameter), tensor in zip(backbone_of(model).items(), diff.tensors, strict=True)
    }
    on.revert()

    assert bits(model) == before
    assert any(not torch.equal(restored[n], p) for n, p in backbone_of(model).items())


def test_a_headless_model_is_found_without_the_prefix() -> None:
    model = build("bert")
    diff = diff_for(model)
    headless = BertModel(BertConfig(**SMALL))
    before = bits(headless)

    on = apply(headless, DiffVector(diff.layout, diff.tensors, {}, {}))

    assert on.n_changed == diff.n_entries
    on.revert()
    assert bits(headless) == before


class Tied(nn.Module):
    """Two names for one tensor, as in language models."""

    base_model_prefix = ""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.decoder = nn.Linear(3, 4, bias=False)
        self.decoder.weight = self.embedding.weight


def one_entry(*names: str, shape: tuple[int, ...] = (4, 3), value: float = 1.0) -> DiffVector:
    layout = Layout("ab" * 32, names, (shape,) * len(names))
    entry = SparseTensor(shape, np.array([1]), np.array([value], np.float32))
    return DiffVector(layout, (entry,) * len(names), {}, {})


@pytest.mark.parametrize("name", ["embedding.weight", "decoder.weight"])
def test_a_tied_tensor_is_changed_once_under_either_name(name: str) -> None:
    model = Tied()
    before = model.embedding.weight.detach().clone()

    with applied(model, one_entry(name)):
        difference = model.decoder.weight.detach() - before

    assert torch.count_nonzero(difference) == 1
    assert difference[0, 1].item() == pytest.approx(1.0)
    assert torch.equal(model.embedding.weight, before)


def test_a_tied_tensor_named_twice_is_refused() -> None:
    with pytest.raises(DiffError, match=r"`decoder\.weight` is tied"):
        plan(Tied(), one_entry("embedding.weight", "decoder.weight"))


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        (one_entry("elsewhere"), "no parameter `elsewhere`"),
        (one_entry("embedding.weight", shape=(3, 4)), r"\(4, 3\) in the model, \(3, 4\)"),
    ],
)
def test_a_diff_of_another_model_is_refused(diff: DiffVector, said: str) -> None:
    with pytest.raises(DiffError, match=said):
        apply(Tied(), diff)


def test_a_diff_of_another_base_is_refused_where_the_base_is_known() -> None:
    assert plan(Tied(), one_entry("embedding.weight"), expected="ab" * 32).groups
    with pytest.raises(BaseMismatchError, match="built on 'cdcd"):
        apply(Tied(), one_entry("embedding.weight"), expected="cd" * 32)


def test_a_weight_that_is_no_float_or_lies_in_pieces_is_refused() -> None:
    whole, pieces = Tied(), Tied()
    whole.embedding.weight = nn.Parameter(torch.zeros(4, 3, dtype=torch.int8), requires_grad=False)
    pieces.embedding.weight = nn.Parameter(torch.zeros(3, 4).t())

    with pytest.raises(DiffError, match=r"has the dtype torch\.int8"):
        apply(whole, one_entry("embedding.weight"))
    with pytest.raises(DiffError, match="is not contiguous"):
        apply(pieces, one_entry("embedding.weight"))


def test_a_diff_lost_in_rounding_is_refused_and_changes_nothing() -> None:
    model = Tied().to(torch.bfloat16)
    with torch.no_grad():
        model.embedding.weight.fill_(1.0)
    before = bits(model)

    with pytest.raises(DiffError, match="changes no weight"):
        apply(model, one_entry("embedding.weight", value=1e-6))

    assert bits(model) == before


def test_the_changed_weights_are_counted_after_rounding() -> None:
    model = Tied().to(torch.bfloat16)
    with torch.no_grad():
        model.embedding.weight.fill_(1.0)
    layout = Layout("ab" * 32, ("embedding.weight",), ((4, 3),))
    entries = SparseTensor((4, 3), np.array([1, 2, 5]), np.array([1e-6, 1, -1], np.float32))

    assert apply(model, DiffVector(layout, (entries,), {}, {})).n_changed == 2


def test_a_sum_that_overflows_is_refused_and_changes_nothing() -> None:
    model = Tied().to(torch.float16)
    before = bits(model)

    with pytest.raises(DiffError, match="1 weights would be NaN or infinite"):
        apply(model, one_entry("embedding.weight", value=1e6))

    assert bits(model) == before


def test_a_head_alone_is_put_on_and_taken_off() -> None:
    model = build("bert")
    full = diff_for(model, density=0.0)
    before = bits(model)

    on = apply(model, full)

    assert on.n_changed == 0
    assert bits(model) != before
    on.revert()
    assert bits(model) == before


def head_only(model: PreTrainedModel, head: dict[str, np.ndarray]) -> DiffVector:
    diff = diff_for(model, density=0.0)
    return DiffVector(diff.layout, diff.tensors, head, {})


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"classifier.wight": np.ones((2, 16), np.float32)}, "no head parameter"),
        ({"bert.pooler.dense.bias": np.ones(16, np.float32)}, "no head parameter"),
        ({"classifier.weight": np.ones((2, 15), np.float32)}, r"\(2, 16\) in the model"),
        ({"classifier.weight": np.ones(16, np.float32)}, r"\(2, 16\) in the model"),
        ({"classifier.weight": np.ones((3, 16), np.float32)}, "equally many outputs"),
        (
            {
                "classifier.weight": np.ones((3, 16), np.float32),
                "classifier.bias": np.ones(4, np.float32),
            },
            "equally many outputs",
        ),
    ],
)
def test_a_head_that_does_not_fit_is_refused_and_changes_nothing(
    head: dict[str, np.ndarray], said: str
) -> None:
    model = build("bert")
    before = bits(model)

    with pytest.raises(DiffError, match=said):
        apply(model, head_only(model, head))

    assert bits(model) == before


def test_a_head_too_large_for_the_model_is_refused() -> None:
    model = build("bert", torch.float16)

    with pytest.raises(DiffError, match="exceeds the range of"):
        apply(model, head_only(model, {"classifier.bias": np.full(2, 1e6, np.float32)}))


def test_one_plan_may_be_put_on_again_after_the_head_was_changed_on_the_model() -> None:
    model = build("bert")
    ready = plan(model, diff_for(model))
    with torch.no_grad():
        first = ready.put_on()
        once = bits(model)
        model.get_parameter("classifier.weight").zero_()
        first.revert()

        ready.put_on()

    assert bits(model) == once


def test_diffs_come_off_in_the_reverse_order() -> None:
    model = build("bert")
    before = bits(model)

    with applied(model, diff_for(model, seed=1)):
        inner = bits(model)
        with applied(model, diff_for(model, seed=2)):
            assert bits(model) != inner
        assert bits(model) == inner

    assert bits(model) == before


def test_taking_a_diff_off_twice_is_refused() -> None:
    model = build("bert")
    on = apply(model, diff_for(model))
    on.revert()

    with pytest.raises(DiffError, match="already reverted"):
        on.revert()


def test_an_error_inside_the_block_takes_the_diff_off() -> None:
    model = build("bert")
    before = bits(model)

    with pytest.raises(RuntimeError, match="inside"), applied(model, diff_for(model)):
        raise RuntimeError("inside")

    assert bits(model) == before


def test_the_model_can_be_trained_before_and_after() -> None:
    """In-place writes must leave no trace in autograd."""
    model = build("bert")
    diff = diff_for(model, n_labels=3)
    inputs = torch.arange(5, 13).view(2, 4)
    model(input_ids=inputs).logits.sum().backward()

    with applied(model, diff):
        model.zero_grad()
        model(input_ids=inputs).logits.sum().backward()
    model.zero_grad()
    model(input_ids=inputs).logits.sum().backward()

    assert all(p.requires_grad for p in model.parameters())
    weight = model.get_parameter("classifier.weight")
    assert weight.grad is not None
    assert weight.grad.shape == weight.shape


def test_double_precision_weights_keep_theirs() -> None:
    model = Tied().to(torch.float64)
    before = model.embedding.weight.detach().clone()

    with applied(model, one_entry("embedding.weight", value=0.5)):
        changed = model.embedding.weight.detach().clone()

    assert changed[0, 1].item() == before[0, 1].item() + 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_bits_as_the_cpu(dtype: torch.dtype) -> None:
    here, there = build("bert", dtype), build("bert", dtype).cuda()
    diff = diff_for(here)
    before = bits(there)

    on_gpu, on_cpu = apply(there, diff), apply(here, diff)

    assert on_gpu.n_changed == on_cpu.n_changed
    assert bits(there) == bits(here) != before
    on_gpu.revert()
    assert bits(there) == before
