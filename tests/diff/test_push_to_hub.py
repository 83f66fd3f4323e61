"""Diffs pushed to a hub and loaded from there, by a server that speaks its protocol."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
import torch
from hub_server import TOKEN, Hub, running_hub
from transformers import BertConfig, BertForSequenceClassification

from streamlab import DiffVector
from streamlab.errors import SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the library asks in place of the real one, with an empty cache."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with running_hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.fixture
def pair() -> tuple[BertForSequenceClassification, BertForSequenceClassification]:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    base = BertForSequenceClassification(BertConfig(num_hidden_layers=1, vocab_size=30, **sizes))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.view(-1)[::20] += 0.5
    return base, tuned


def test_a_pushed_diff_comes_back_with_its_card(
    hub: Hub, pair: tuple[BertForSequenceClassification, BertForSequenceClassification]
) -> None:
    base, tuned = pair
    diff = DiffVector.from_models(base, tuned, exact=True, task={"task": "mood"})

    commit = diff.push_to_hub(
        "me/mood",
        base_model="google-bert/bert-base-uncased",
        scores={"accuracy": 0.91},
        score_source="872 examples of the dev split",
        private=True,
        message="First version",
    )
    back = DiffVector.from_pretrained("me/mood", base=base)

    assert back == diff
    assert commit == hub.commit_of("me/mood")
    assert (hub.private, hub.messages) == ({"me/mood"}, ["First version"])
    data, card = hub.files["me/mood"]["diff.sldiff"], hub.files["me/mood"]["README.md"].decode()
    assert 'base_model: "google-bert/bert-base-uncased"' in card.split("---")[1]
    assert f"**{len(data):,}**" in card
    assert "| accuracy | 0.91 |" in card
    assert "Scored on: 872 examples of the dev split." in card


def test_a_second_push_renews_the_repository(
    hub: Hub, pair: tuple[BertForSequenceClassification, BertForSequenceClassification]
) -> None:
    base, tuned = pair
    diff = DiffVector.from_models(base, tuned)

    commits = {diff.push_to_hub("me/mood", value_type=kind) for kind in ("bf16", "int8")}

    assert len(commits) == 2
    assert hub.files.keys() == {"me/mood"}
    assert DiffVector.from_pretrained("me/mood", base=base).n_entries == diff.n_entries


def test_a_hub_that_refuses_says_why(
    hub: Hub,
    pair: tuple[BertForSequenceClassification, BertForSequenceClassification],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diff = DiffVector.from_models(*pair)

    with pytest.raises(SourceError, match="cannot be pushed to 'a b/c'"):
        diff.push_to_hub("a b/c")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(SourceError, match="HF_TOKEN may write to it"):
        diff.push_to_hub("me/mood")
    assert hub.files == {}


def test_scores_without_a_source_are_refused(
    pair: tuple[BertForSequenceClassification, BertForSequenceClassification], tmp_path: Path
) -> None:
    diff = DiffVector.from_models(*pair)

    with pytest.raises(UsageError, match="Scores need their source"):
        diff.save_pretrained(tmp_path / "x", scores={"accuracy": 1.0})
    assert not (tmp_path / "x").exists()
