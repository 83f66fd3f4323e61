"""Dropout can be set on every family of models that a base can be of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from streamlab.methods.training_loop import set_dropout

FAMILIES: dict[str, Callable[[dict[str, Any]], PreTrainedConfig]] = {
    "bert": lambda sizes: BertConfig(**sizes),
    "roberta": lambda sizes: RobertaConfig(**sizes),
    "electra": lambda sizes: ElectraConfig(**sizes, embedding_size=8),
    "deberta": lambda sizes: DebertaV2Config(**sizes),
    "distilbert": lambda sizes: DistilBertConfig(
        dim=16, hidden_dim=24, n_layers=2, n_heads=2, vocab_size=sizes["vocab_size"]
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_dropout_training_computes_what_evaluation_does(
    family: str, tiny_sizes: dict[str, Any]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = FAMILIES[family](tiny_sizes)
        model = AutoModelForSequenceClassification.from_config(config)
        ids = torch.randint(3, 20, (4, 7))
        evaluated = model.eval()(input_ids=ids).logits
        assert not torch.allclose(model.train()(input_ids=ids).logits, evaluated)

        set_dropout(model, 0.0)

        torch.testing.assert_close(model(input_ids=ids).logits, evaluated)
