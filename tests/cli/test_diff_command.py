from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner, Result
from transformers import BertConfig, BertForSequenceClassification

from streamlab.cli import cli
from streamlab.diff.format.container import open_diff

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call the command line beside two checkpoints, `base` and `tuned`."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(**SMALL))
    model.save_pretrained("base")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[7] += 1
    model.save_pretrained("tuned")
    return lambda *arguments: CliRunner().invoke(cli, ["diff", *arguments])


def test_an_exact_diff_is_written_and_its_bytes_are_shown(call: Callable[..., Result]) -> None:
    result = call("base", "tuned", "-o", "x.sldiff", "--format", "json")

    assert result.exit_code == 0, result.output
    assert "equals TUNED, bit for bit" in result.stderr
    file = open_diff(Path("x.sldiff").read_bytes())
    assert (file.header.mode, file.header.k, file.header.value_type) == ("replace", 16, "fp32")
    sizes = {row["part"]: row["bytes"] for row in json.loads(result.stdout)}
    assert sizes["file"] == Path("x.sldiff").stat().st_size
    assert sizes["whole checkpoint"] > sizes["file"]
    assert file.digest in result.stderr


def test_a_diff_to_add_takes_a_value_type(call: Callable[..., Result]) -> None:
    result = call("base", "tuned", "-o", "x", "--add", "--values", "int4")

    assert result.exit_code == 0, result.output
    header = open_diff(Path("x").read_bytes()).header
    assert (header.mode, header.value_type) == ("add", "int4")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("base", "nowhere/at all", "-o", "x"), 2, "not an existing folder"),
        (("base", "base", "-o", "base/config.json/x"), 1, "cannot be written"),
        (("base", "tuned", "-o", "x", "--values", "int8"), 1, "use a wider type"),
        (("base", "tuned"), 2, "Missing option '-o'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_paragraph(
    call: Callable[..., Result], arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    result = call(*arguments)

    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not Path("x").exists()
