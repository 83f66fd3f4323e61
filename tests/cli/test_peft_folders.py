"""Adapters of the PEFT library in and out: the same answers, and the bytes of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from base_kinds import save_kind
from safetensors.torch import load_file, save_file
from serving_samples import Call, caller
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from streamlab import open_home

peft = pytest.importorskip("peft")
# Of the library itself: it calls a name that `transformers` deprecates, and makes sparse tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),
]

TEXTS = ["a great film", "the meal was awful", "not a very dull book"]
WEIGHTS = Path("adapter") / "adapter_model.safetensors"
CONFIG = Path("adapter") / "adapter_config.json"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line beside a base, with a home that does not exist."""
    monkeypatch.chdir(tmp_path)
    save_kind(Path("base"), "BERT")
    return caller(tmp_path / "home")


def make_adapter(config: Any, base: str = "base") -> torch.Tensor:
    """Save an adapter with values in all its parts, and return its logits."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    wrapper = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    wrapper.save_pretrained("adapter")
    return logits(wrapper)


def shira(**settings: Any) -> Any:
    given = {"r": 2, "target_modules": ["query", "value"], "random_seed": 3}
    return peft.ShiraConfig(task_type="SEQ_CLS", **(given | settings))


def logits(model: Any) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained("base")
    model.eval()
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    return torch.stack(rows)


def loaded_by_peft(folder: str) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained("base", num_labels=3)
    return logits(peft.PeftModel.from_pretrained(model, folder))


def served(task: str) -> torch.Tensor:
    home = open_home("home")
    with home.task(task).applied(home.load_base()) as on:
        return logits(on.model)


def words(result: Any) -> str:
    return " ".join(result.stderr.split())


def test_a_shira_adapter_becomes_a_diff_with_unchanged_logits(call: Call) -> None:
    expected = make_adapter(shira())

    made = call(
        "import", "peft", "adapter", "--base", "base", "--task", "mood", "--labels", "a,b,c"
    )

    assert made.exit_code == 0, made.stderr
    assert call("merge", "mood", "--to", "merged").exit_code == 0
    merged = AutoModelForSequenceClassification.from_pretrained("merged")
    assert torch.equal(logits(merged), expected)
    rows = json.loads(call("predict", "mood", *TEXTS, "--format", "json").stdout)
    assert [row["label"] for row in rows] == ["abc"[i] for i in expected.argmax(dim=1).tolist()]
    (diff,) = json.loads(call("ls", "diffs", "--format", "json").stdout)
    assert (diff["kind"], diff["value_type"]) == ("diff", "fp32")
    assert "as PEFT's two files" in words(made)
    assert diff["file_bytes"] < WEIGHTS.stat().st_size


def test_values_of_fewer_bytes_can_be_asked_for(call: Call) -> None:
    expected = make_adapter(shira())

    call("import", "peft", "adapter", "--base", "base", "--task", "mood", "--values", "int8")

    assert torch.allclose(served("mood"), expected, atol=0.05)
    (diff,) = json.loads(call("ls", "diffs", "--format", "json").stdout)
    per_value = (diff["positions_bytes"] + diff["values_bytes"]) / diff["n_entries"]
    assert per_value < 2.5


def test_a_lora_adapter_stays_an_adapter_with_its_own_numbers(call: Call) -> None:
    config = peft.LoraConfig(
        r=4, lora_alpha=7, use_rslora=True, target_modules=["query"], task_type="SEQ_CLS"
    )
    expected = make_adapter(config)

    made = call("import", "peft", "adapter", "--base", "base", "--task", "mood")
    back = call("export", "mood", "--layout", "peft", "-o", "back")

    assert (made.exit_code, back.exit_code) == (0, 0), made.stderr + back.stderr
    (record,) = json.loads(call("ls", "diffs", "--format", "json").stdout)
    assert record["kind"] == "adapter"
    assert torch.equal(loaded_by_peft("back"), expected)
    assert call("verify").exit_code == 0
    shown = call("show", "mood")
    assert shown.exit_code == 0, shown.stderr


@pytest.mark.parametrize("rank", [1, 3])
def test_a_diff_of_linear_layers_goes_back_to_peft(rank: int, call: Call) -> None:
    expected = make_adapter(shira(r=rank))
    call("import", "peft", "adapter", "--base", "base", "--task", "mood")

    back = call("export", "mood", "--layout", "peft", "-o", "back")

    assert back.exit_code == 0, back.stderr
    assert torch.equal(loaded_by_peft("back"), expected)
    config = json.loads((Path("back") / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"]) == ("SHIRA", rank)


def test_layers_with_fewer_entries_are_filled_with_zeros(call: Call) -> None:
    make_adapter(shira())
    tensors = load_file(WEIGHTS)
    name = next(name for name in tensors if name.endswith("query.shira_weight"))
    tensors[name] = torch.where(torch.arange(len(tensors[name])) < 5, tensors[name], 0.0)
    save_file(tensors, WEIGHTS, metadata={"format": "pt"})
    expected = loaded_by_peft("adapter")
    call("import", "peft", "adapter", "--base", "base", "--task", "mood")

    call("export", "mood", "--layout", "peft", "-o", "back")

    assert torch.equal(loaded_by_peft("back"), expected)


def test_a_diff_of_more_than_linear_layers_is_not_exported_and_why_is_said(call: Call) -> None:
    model = AutoModelForSequenceClassification.from_pretrained("base")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[3] += 1
    model.save_pretrained("tuned")
    call("diff", "base", "tuned", "-o", "exact.sldiff", "--task", "exact")
    call("diff", "base", "tuned", "-o", "added.sldiff", "--task", "added", "--add")
    for name in ("exact", "added"):
        assert call("import", f"{name}.sldiff", "--base", "base").exit_code == 0

    exact, added = (
        call("export", name, "--layout", "peft", "-o", "back") for name in ("exact", "added")
    )

    assert (exact.exit_code, added.exit_code) == (1, 1)
    assert "The diff's mode is `replace`" in words(exact)
    assert "changes `bert.embeddings.word_embeddings.weight`" in words(added)
    assert not Path("back").exists()


def change_config(**changes: Any) -> None:
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    CONFIG.write_text(json.dumps(config | changes), encoding="utf-8")


def change_tensors(end: str, change: Any) -> None:
    tensors = load_file(WEIGHTS)
    name = next(name for name in tensors if name.endswith(end))
    tensors[name] = change(tensors[name])
    save_file(tensors, WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: change_config(new_rule=1), "setting `new_rule` is 1, which is not used"),
        (lambda: change_config(peft_type="TRAINABLE_TOKENS"), "of the type 'TRAINABLE_TOKENS'"),
        (lambda: change_config(target_modules=".*(query|value)$"), "`target_modules"),
        (lambda: change_tensors("indices", lambda t: t + 1000), "outside its matrix"),
        (lambda: change_tensors("indices", torch.zeros_like), "outside its matrix, or twice"),
        (lambda: change_tensors("indices", lambda t: t[:, :-1].clone()), "has the shape"),
        (lambda: change_tensors("shira_weight", lambda t: t / 0), "NaN or infinite"),
        (
            lambda: change_tensors("classifier.bias", lambda t: t[:2].clone()),
            "equally many outputs",
        ),
        (lambda: WEIGHTS.write_bytes(b"x" * 50), "cannot be read"),
        (WEIGHTS.unlink, "not a folder that PEFT has saved an adapter into"),
    ],
)
def test_an_adapter_that_is_not_understood_is_refused_and_nothing_is_made(
    spoil: Any, message: str, call: Call
) -> None:
    make_adapter(shira())
    spoil()

    result = call("import", "peft", "adapter", "--base", "base", "--task", "mood")

    assert result.exit_code in (1, 2)
    assert message in words(result)
    assert not Path("home").exists()


def test_indices_in_floating_point_are_read_as_windows_wrote_them(call: Call) -> None:
    expected = make_adapter(shira())
    tensors = load_file(WEIGHTS)
    floats = {n: t.float() if n.endswith("indices") else t for n, t in tensors.items()}
    save_file(floats, WEIGHTS, metadata={"format": "pt"})

    assert call("import", "peft", "adapter", "--base", "base", "--task", "mood").exit_code == 0
    assert torch.allclose(served("mood"), expected, atol=1e-6)


def test_the_base_is_asked_for_unless_one_alone_is_recorded(call: Call) -> None:
    make_adapter(shira())

    without = call("import", "peft", "adapter")
    assert call("import", "peft", "adapter", "--base", "base", "--task", "one").exit_code == 0
    again = call("import", "peft", "adapter", "--task", "two")

    assert (without.exit_code, again.exit_code) == (2, 0)
    assert "which base the adapter was trained on" in words(without)
