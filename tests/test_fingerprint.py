"""What a fingerprint depends on, and where a model's head begins."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from streamlab.hashing import fingerprint_examples, fingerprint_tensors, split_head


def tensors() -> dict[str, Tensor]:
    return {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(1.0), "c": torch.empty(0)}


def changed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    return tensors() | {name: tensor}


def test_the_fingerprint_of_tensors_is_the_sha256_that_the_docs_describe() -> None:
    expected = hashlib.sha256()
    for name, tensor in sorted(tensors().items()):
        header = [name, "torch.float32", list(tensor.shape)]
        expected.update(json.dumps(header, separators=(",", ":")).encode())
        expected.update(tensor.numpy().tobytes())

    assert fingerprint_tensors(tensors()) == expected.hexdigest()


def test_the_order_and_the_memory_of_tensors_do_not_matter() -> None:
    reordered = dict(reversed(tensors().items()))
    strided = changed("b", torch.arange(6.0).reshape(2, 3).T.contiguous().T)
    needing = changed("a", torch.tensor(1.0, requires_grad=True))

    assert not strided["b"].is_contiguous()
    for same in (reordered, strided, needing):
        assert fingerprint_tensors(same) == fingerprint_tensors(tensors())


@pytest.mark.parametrize(
    "other",
    [
        {("d" if name == "a" else name): tensor for name, tensor in tensors().items()},
        {name: tensor for name, tensor in tensors().items() if name != "c"},
        changed("b", torch.arange(6.0).reshape(3, 2)),
        changed("b", torch.arange(6.0).reshape(6)),
        changed("b", torch.arange(6.0).reshape(2, 3).to(torch.bfloat16)),
        changed("b", torch.arange(6.0).reshape(2, 3).view(torch.int32)),
        changed("a", torch.tensor(1.0).nextafter(torch.tensor(2.0))),
        changed("c", torch.empty(0, 2)),
    ],
    ids=["name", "absence", "shape", "dimensions", "dtype", "dtype alone", "bit", "empty shape"],
)
def test_names_shapes_dtypes_and_bytes_all_matter(other: dict[str, Tensor]) -> None:
    assert fingerprint_tensors(other) != fingerprint_tensors(tensors())


def test_an_empty_tensor_has_a_fingerprint_however_it_came_about() -> None:
    from_numpy = torch.from_numpy(np.arange(6.0, dtype=np.float32)[np.zeros(0, np.int64)].copy())

    for empty in (from_numpy, torch.empty(0), torch.ones(3)[3:], torch.ones(()).expand(0)):
        assert fingerprint_tensors(changed("c", empty)) == fingerprint_tensors(tensors())


def test_zero_and_minus_zero_differ() -> None:
    assert fingerprint_tensors({"a": torch.tensor(0.0)}) != fingerprint_tensors(
        {"a": torch.tensor(-0.0)}
    )


def test_the_fingerprint_of_rows_is_the_sha256_of_one_json_line_a_row() -> None:
    rows: list[tuple[str, str | None, int | float]] = [("a", None, 1), ("é", "b\n", 2.5)]
    lines = b'["a",null,1]\n' + b'["\\u00e9","b\\n",2.5]\n'

    assert fingerprint_examples(rows) == hashlib.sha256(lines).hexdigest()


def test_the_order_of_rows_and_every_part_of_one_matter() -> None:
    rows: list[tuple[str, str | None, int | float]] = [("a", "b", 1), ("c", None, 0)]
    others: list[list[tuple[str, str | None, int | float]]] = [
        rows[::-1], rows[:1], [("a", "b", 0), rows[1]], [("a", None, 1), rows[1]],
        [("ab", "", 1), rows[1]], [("a", "b", 1.0), rows[1]],
    ]  # fmt: skip

    assert len({fingerprint_examples(r) for r in [rows, *others]}) == 1 + len(others)


def test_the_head_is_what_the_headless_model_lacks() -> None:
    classifier = ["bert.embeddings.weight", "bert.pooler.weight", "classifier.weight"]

    backbone, head = split_head(classifier, ["pooler.weight", "embeddings.weight"], "bert")

    assert list(backbone.items()) == [
        ("embeddings.weight", "bert.embeddings.weight"),
        ("pooler.weight", "bert.pooler.weight"),
    ]
    assert head == ("classifier.weight",)


def test_a_pooler_that_only_one_of_the_two_models_has_under_the_prefix_is_no_backbone() -> None:
    headless_alone = split_head(["r.layer.weight", "out.weight"], ["layer.weight", "pooler.w"], "r")
    outside_the_prefix = split_head(["d.layer.w", "pooler.w"], ["layer.w", "pooler.w"], "d")

    assert headless_alone == ({"layer.weight": "r.layer.weight"}, ("out.weight",))
    assert outside_the_prefix == ({"layer.w": "d.layer.w"}, ("pooler.w",))
