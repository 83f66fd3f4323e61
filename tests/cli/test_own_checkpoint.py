"""From checkpoints of one's own to answers: three commands, in a folder without a home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from base_kinds import save_kind, save_tokenizer
from serving_samples import Call, caller
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from streamlab import DiffVector, open_home

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEXTS = ["a great film", "the meal was awful", "not a very dull book"]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line in an empty folder, with a home that does not exist."""
    monkeypatch.chdir(tmp_path)
    return caller(tmp_path / "home")


def tune(kind: str, **config: Any) -> PreTrainedModel:
    """Save `base` without a head, and beside it `tuned`, a classifier; return the latter."""
    save_kind(Path("base"), kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_pretrained("base", **config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::40] += 0.3
    model.save_pretrained("tuned")
    AutoTokenizer.from_pretrained("base").save_pretrained("tuned")
    return model.eval()


def logits(model: PreTrainedModel, texts: list[str]) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained("base")
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    return torch.stack(rows).double()


def read(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout))


@pytest.mark.parametrize("kind", ["BERT", "RoBERTa", "DeBERTa-v2", "Llama"])
def test_three_commands_lead_from_a_checkpoint_to_its_answers(kind: str, call: Call) -> None:
    names = {0: "bad", 1: "middling", 2: "good"}
    model = tune(kind, id2label=names, label2id={n: i for i, n in names.items()})

    made = call("diff", "base", "tuned", "-o", "mine.sldiff")
    assert made.exit_code == 0, made.stderr
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))
    rows = read(call("predict", "tuned", *TEXTS, "--format", "json"))

    expected = logits(model, TEXTS).softmax(dim=1)
    found = torch.tensor([[row[f"p({name})"] for name in names.values()] for row in rows])
    assert "labels bad, middling, good" in " ".join(made.stderr.split())
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert [row["label"] for row in rows] == [names[i] for i in expected.argmax(dim=1).tolist()]


def test_a_regression_gives_values(call: Call) -> None:
    model = tune("BERT", num_labels=1)

    call("diff", "base", "tuned", "-o", "mine.sldiff", "--task", "degree")
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))
    rows = read(call("predict", "degree", *TEXTS, "--format", "json"))

    values = torch.tensor([row["value"] for row in rows]).double()
    assert torch.allclose(values, logits(model, TEXTS)[:, 0], atol=1e-5)


def test_labels_may_be_named(call: Call) -> None:
    tune("BERT")

    call("diff", "base", "tuned", "-o", "x.sldiff", "--task", "mood", "--labels", "sad, glad")
    wrong = call("diff", "base", "tuned", "-o", "y.sldiff", "--labels", "a,b,c")
    read(call("import", "x.sldiff", "--base", "base", "--format", "json"))
    rows = read(call("predict", "mood", "a great film", "--format", "json"))

    assert rows[0]["label"] in {"sad", "glad"}
    assert wrong.exit_code == 2
    assert "do not fit: the model has 2 outputs" in " ".join(wrong.stderr.split())
    assert not Path("y.sldiff").exists()


def test_a_diff_of_a_run_is_served_in_a_fresh_home(call: Call) -> None:
    tune("BERT")
    call("diff", "base", "tuned", "-o", "mine.sldiff")
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))
    before = call("predict", "tuned", *TEXTS, "--format", "json").stdout
    fresh = caller(Path("elsewhere"))

    assert call("export", "tuned", "-o", "sent.sldiff").exit_code == 0
    read(fresh("import", "sent.sldiff", "--base", "base", "--provider", "me", "--format", "json"))

    assert fresh("predict", "tuned", *TEXTS, "--format", "json").stdout == before
    (base,) = read(fresh("ls", "bases", "--format", "json"))
    assert base["model"] == str(Path("base").absolute())
    assert open_home("elsewhere").task("tuned").description().labels == ("LABEL_0", "LABEL_1")
    # What is imported is the latest run while there is no other.
    assert "imported-1" in fresh("show", "tuned").stdout
    assert open_home("elsewhere").load_base().base.layout.n_gated > 0


def test_another_base_than_the_file_has_is_refused_and_makes_no_home(call: Call) -> None:
    tune("BERT")
    call("diff", "base", "tuned", "-o", "mine.sldiff")
    save_kind(Path("other"), "BERT", seed=5)

    wrong = call("import", "mine.sldiff", "--base", "other")
    none = call("import", "mine.sldiff")

    assert (wrong.exit_code, none.exit_code) == (1, 1)
    assert "its weights, configuration or tokenizer differ" in " ".join(wrong.stderr.split())
    assert "There is no registry in the home" in " ".join(none.stderr.split())
    assert not Path("home").exists()


def test_an_imported_checkpoint_is_merged_back(call: Call) -> None:
    model = tune("BERT", num_labels=3)
    call("diff", "base", "tuned", "-o", "mine.sldiff")
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))

    of_task = call("merge", "tuned", "--to", "by-task")
    of_file = call("merge", "mine.sldiff", "--base", "base", "--to", "by-file")

    assert (of_task.exit_code, of_file.exit_code) == (0, 0), of_file.stderr
    for folder in ("by-task", "by-file"):
        merged = AutoModelForSequenceClassification.from_pretrained(folder)
        assert torch.equal(logits(merged.eval(), TEXTS), logits(model, TEXTS))
        assert merged.config.problem_type == "single_label_classification"


def test_tags_of_an_own_checkpoint_are_predicted(call: Call) -> None:
    save_kind(Path("base"), "BERT")
    tags = dict(enumerate(("O", "B-X", "I-X")))
    model = AutoModelForTokenClassification.from_pretrained(
        "base", id2label=tags, label2id={tag: place for place, tag in tags.items()}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::40] += 0.3
    model.save_pretrained("tuned")

    made = call("diff", "base", "tuned", "-o", "mine.sldiff")
    assert made.exit_code == 0, made.stderr
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))
    (row,) = read(call("predict", "tuned", TEXTS[0], "--format", "json"))

    inputs = AutoTokenizer.from_pretrained("base")(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        expected = model.eval()(**inputs).logits[0, 1:-1].argmax(-1).tolist()
    assert row["tags"] == " ".join(tags[place] for place in expected)


@pytest.mark.parametrize("tied", [True, False])
def test_prompts_are_completed_by_an_own_checkpoint(tied: bool, call: Call) -> None:
    model: Any = save_kind(Path("base"), "Llama", head="ForCausalLM", tie_word_embeddings=tied)
    save_tokenizer(Path("base"), eos_token="[SEP]")  # noqa: S106
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.view(-1)[::7] += 0.5
    model.save_pretrained("tuned")
    tokenizer = AutoTokenizer.from_pretrained("base")
    tokenizer.save_pretrained("tuned")

    made = call("diff", "base", "tuned", "-o", "mine.sldiff")
    assert made.exit_code == 0, made.stderr
    read(call("import", "mine.sldiff", "--base", "base", "--format", "json"))
    (row,) = read(call("predict", "tuned", TEXTS[0], "--format", "json"))

    # Prompt and completion together are as long as the model takes.
    most = min(256, model.config.max_position_embeddings // 2)
    ids = [tokenizer.cls_token_id, *tokenizer(TEXTS[0], add_special_tokens=False).input_ids]
    written = model.eval().generate(
        torch.tensor([ids]), max_new_tokens=most, do_sample=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=0,
    )  # fmt: skip
    expected = tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)
    assert row["completion"] == expected


@pytest.mark.parametrize(("given", "n_labels"), [(2, 3), (3, 1), (5, 2)])
def test_a_head_of_another_size_takes_the_place_of_a_models_own(
    given: int, n_labels: int, call: Call
) -> None:
    model = tune("BERT", num_labels=n_labels)
    call("diff", "base", "tuned", "-o", "mine.sldiff")
    other = AutoModelForSequenceClassification.from_pretrained("base", num_labels=given)

    DiffVector.load("mine.sldiff", base=other).merge_into(other)

    assert torch.equal(logits(other.eval(), TEXTS), logits(model, TEXTS))
    assert other.config.num_labels == n_labels
    problem = "regression" if n_labels == 1 else "single_label_classification"
    assert other.config.problem_type == problem


def tune_whole(kind: str, model_class: str, head: str = "", **config: Any) -> None:
    """Save a base, with a head if one is named, and a model of a class that was tuned from it."""
    save_kind(Path("base"), kind, head=head)
    tokenizer = AutoTokenizer.from_pretrained("base")
    tokenizer.eos_token = tokenizer.sep_token or tokenizer.pad_token
    tokenizer.save_pretrained("base")
    torch.manual_seed(5)
    model = getattr(transformers, model_class).from_pretrained("base", **config)
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter.view(-1)[::40] += 0.3
    model.save_pretrained("tuned")
    tokenizer.save_pretrained("tuned")


def test_a_token_classifier_gives_its_labels(call: Call) -> None:
    names = {0: "O", 1: "B-PER", 2: "I-PER"}
    tune_whole("BERT", "AutoModelForTokenClassification", id2label=names, num_labels=3)

    made = call("diff", "base", "tuned", "-o", "x.sldiff")
    read(call("import", "x.sldiff", "--base", "base", "--format", "json"))
    rows = read(call("predict", "tuned", "a great film", "--format", "json"))

    assert "tokens, labels O, B-PER, I-PER" in " ".join(made.stderr.split())
    assert len(rows) == 1


@pytest.mark.parametrize(("kind", "head"), [("GPT-2", "LMHeadModel"), ("Llama", "ForCausalLM")])
def test_a_language_model_completes(kind: str, head: str, call: Call) -> None:
    tune_whole(kind, "AutoModelForCausalLM", head)

    made = call("diff", "base", "tuned", "-o", "x.sldiff")
    imported = call("import", "x.sldiff", "--base", "base", "--format", "json")
    merged = call("merge", "x.sldiff", "--base", "base", "--to", "merged")
    rows = read(call("predict", "tuned", "a great film", "--format", "json"))

    assert made.exit_code == 0, made.stderr
    assert (imported.exit_code, merged.exit_code) == (0, 0), imported.stderr + merged.stderr
    assert "causal_lm" in made.stderr
    assert len(rows) == 1
    found, expected = (
        dict(transformers.AutoModelForCausalLM.from_pretrained(f).named_parameters())
        for f in ("merged", "tuned")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_language_models_head_that_was_tuned_is_refused(call: Call) -> None:
    tune_whole("Llama", "AutoModelForCausalLM", "ForCausalLM")
    model = transformers.AutoModelForCausalLM.from_pretrained("tuned")
    with torch.no_grad():
        model.lm_head.weight[0] += 1
    model.save_pretrained("tuned")

    result = call("diff", "base", "tuned", "-o", "x.sldiff")

    assert result.exit_code == 1, result.stderr
    assert "`lm_head.weight`, the head of the language model, is not that" in " ".join(
        result.stderr.split()
    )
