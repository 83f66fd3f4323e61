"""Every task type from rows to answers: trained, stored, scored, applied, merged.

The oracle of each is plain `transformers` on the merged folder, one example at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from base_kinds import BAD, GOOD, save_kind, save_tokenizer
from serving_samples import caller
from sklearn.metrics import accuracy_score, f1_score
from stream_samples import Lab, Ran, carry_out, write_rows
from transformers import AutoTokenizer

from streamlab import open_home
from streamlab.errors import DataProblemsError
from streamlab.inference.merge import Merged, merge_to
from streamlab.inference.model import LoadedBase
from streamlab.inference.stored_task import StoredTask, TaskDescription

Row = dict[str, Any]
THINGS = ("film", "book", "meal", "play", "song")
N_TRAIN, N_DEV = 96, 24


def multi_label_row(draw: np.random.Generator) -> Row:
    words = [*draw.choice(GOOD, draw.integers(0, 2)), *draw.choice(BAD, draw.integers(0, 2))]
    labels = [name for name, of in (("good", GOOD), ("bad", BAD)) if {*of} & {*words}]
    return {"text": " ".join(["the", str(draw.choice(THINGS)), "was", *words]), "labels": labels}


def tags_row(draw: np.random.Generator) -> Row:
    words, tags = [], []
    for _ in range(int(draw.integers(2, 5))):
        if draw.integers(2):
            words += [str(draw.choice(GOOD)), str(draw.choice(THINGS))]
            tags += ["B-PRAISE", "I-PRAISE"]
        else:
            words.append(str(draw.choice(["the", "was", "and", "very"])))
            tags.append("O")
    return {"tokens": words, "tags": tags}


def completion_row(draw: np.random.Generator) -> Row:
    thing, good = str(draw.choice(THINGS)), int(draw.integers(2))
    word = str(draw.choice(GOOD if good else BAD))
    return {
        "prompt": f"the {thing} was {word}",
        "completion": f"a {'fine' if good else 'poor'} {thing}",
    }


@dataclass(frozen=True)
class Learnt:
    """A task that was learnt, its dev rows, scores by metric, and its merged folder."""

    stored: StoredTask
    loaded: LoadedBase
    rows: list[Row]
    scores: dict[str, float]
    merged: Merged
    ran: Ran

    @property
    def description(self) -> TaskDescription:
        return self.stored.description()

    @property
    def model(self) -> Any:
        return getattr(transformers, self.merged.model_class).from_pretrained(self.merged.folder)

    @property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.merged.folder)


def learn(
    folder: Path, base: Path, make: Callable[[np.random.Generator], Row], **changes: Any
) -> Learnt:
    """Train one task of 96 rows for some steps by three methods, and merge the diff."""
    lab = Lab(folder)
    ran = carry_out(lab.write(tree_of(lab, base, make, **changes)), folder / "home")
    home = open_home(ran.home.path)
    for outcome in ran.outcomes:
        assert outcome.record.status == "finished", outcome.record.reason
    stored, loaded = home.task("mine"), home.load_base()
    own = ran.outcomes[0].scores
    scores = {score.metric: score.value for score in own if score.split == "dev"}
    merged = merge_to(loaded, stored, folder / "merged")
    rows = (folder / "rows" / "mine" / "dev.jsonl").read_text().splitlines()
    return Learnt(stored, loaded, [json.loads(row) for row in rows], scores, merged, ran)


def tree_of(
    lab: Lab, base: Path, make: Callable[[np.random.Generator], Row], **changes: Any
) -> dict[str, Any]:
    """Write the rows of one task, and return its scenario; `changes` are of its training."""
    draw = np.random.default_rng(5)
    rows = {
        name: [make(draw) for _ in range(n)] for name, n in (("train", N_TRAIN), ("dev", N_DEV))
    }
    for name, of_split in rows.items():
        write_rows(lab.folder / "rows" / "mine" / f"{name}.jsonl", of_split)
    tree = lab.tree(
        name="typed",
        base={"model": str(base)},
        providers={"press": {"tasks": ["mine"]}},
        tasks={"mine": {"dataset": "mine", "files": {"folder": "rows/mine"}}},
    )
    tree["defaults"]["training"] |= {
        "min_steps": 120,
        "learning_rate": 5e-3,
        "dropout": 0,
    } | changes
    tree["baselines"] = ["full_finetuning", "lora"]
    return tree


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder = tmp_path_factory.mktemp("labelled")
    save_kind(folder / "base", "BERT", initializer_range=0.2)
    return learn(folder, folder / "base", multi_label_row, learning_rate=2e-3)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder = tmp_path_factory.mktemp("tagged")
    save_kind(folder / "base", "BERT", initializer_range=0.2)
    return learn(folder, folder / "base", tags_row)


@pytest.fixture(scope="module", params=["tied", "untied"])
def completed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder = tmp_path_factory.mktemp(request.param)
    tied = request.param == "tied"
    save_kind(
        folder / "base", "Llama", head="ForCausalLM", tie_word_embeddings=tied,
        initializer_range=0.2,
    )  # fmt: skip
    save_tokenizer(folder / "base", eos_token="[SEP]")  # noqa: S106
    return learn(folder, folder / "base", completion_row)


def test_several_labels_are_those_of_plain_transformers(labelled: Learnt) -> None:
    model, tokenizer = labelled.model, labelled.tokenizer
    names = labelled.description.labels
    texts = [row["text"] for row in labelled.rows]
    with labelled.stored.applied(labelled.loaded) as served:
        answers = served.predict(texts)

    plain = []
    for text, answer in zip(texts, answers, strict=True):
        with torch.inference_mode():
            shares = model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid()
        plain.append([name for name, p in zip(names, shares, strict=True) if p > 0.5])
        assert list(answer.probabilities.values()) == pytest.approx(shares.tolist(), abs=1e-5)
        assert list(answer.labels) == plain[-1]
    flags = [[[n in found for n in names] for found in every] for every in
             ([row["labels"] for row in labelled.rows], plain)]  # fmt: skip
    assert labelled.scores == {
        "micro_f1": pytest.approx(f1_score(*flags, average="micro")),
        "macro_f1": pytest.approx(f1_score(*flags, average="macro")),
        "subset_accuracy": pytest.approx(accuracy_score(*flags)),
    }
    assert labelled.scores["micro_f1"] > 0.7
    assert model.config.problem_type == "multi_label_classification"


def test_tags_are_those_of_plain_transformers(tagged: Learnt) -> None:
    model, tokenizer = tagged.model, tagged.tokenizer
    with tagged.stored.applied(tagged.loaded) as served:
        answers = served.predict([row["tokens"] for row in tagged.rows])

    right = []
    for row, answer in zip(tagged.rows, answers, strict=True):
        inputs = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            found = model(**inputs).logits[0].argmax(-1).tolist()
        firsts = [inputs.word_ids().index(i) for i in range(len(row["tokens"]))]
        tags = [model.config.id2label[found[place]] for place in firsts]
        assert list(answer.tags) == tags
        right += [one == other for one, other in zip(tags, row["tags"], strict=True)]
    assert tagged.scores["token_accuracy"] == pytest.approx(np.mean(right))
    assert tagged.scores["entity_f1"] > 0.8


def test_a_completion_is_scored_as_plain_transformers_does(completed: Learnt) -> None:
    model, tokenizer = completed.model, completed.tokenizer
    losses, right, exact = [], [], []
    for row in completed.rows:
        prompt = [
            tokenizer.cls_token_id,
            *tokenizer(row["prompt"], add_special_tokens=False).input_ids,
        ]
        answer = [
            *tokenizer(row["completion"], add_special_tokens=False).input_ids,
            tokenizer.eos_token_id,
        ]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[
                0, len(prompt) - 1 : -1
            ]
        wanted = torch.tensor(answer)
        losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        right.append(logits.argmax(-1) == wanted)
        written = model.generate(
            torch.tensor([prompt]), max_new_tokens=len(answer), do_sample=False,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        exact.append(written[0, len(prompt) :].tolist() == answer)

    assert completed.scores == {
        "perplexity": pytest.approx(torch.cat(losses).mean().exp().item(), rel=1e-4),
        "token_accuracy": pytest.approx(torch.cat(right).float().mean().item()),
        "exact_match": pytest.approx(np.mean(exact)),
    }
    assert completed.scores["token_accuracy"] > 0.8


def test_a_prompt_is_completed_as_greedy_decoding_does(completed: Learnt) -> None:
    prompts = [row["prompt"] for row in completed.rows]
    with completed.stored.applied(completed.loaded) as served:
        answers = [answer.text for answer in served.predict(prompts)]

    exact = [text == row["completion"] for text, row in zip(answers, completed.rows, strict=True)]
    assert np.mean(exact) == completed.scores["exact_match"]


def test_a_language_model_has_no_head_in_its_file(completed: Learnt) -> None:
    parts = completed.loaded.base.parts("AutoModelForCausalLM")
    tied = completed.model.config.tie_word_embeddings

    assert completed.stored.artifact.diff.n_head_entries == 0
    assert list(parts.frozen) == ([] if tied else ["lm_head.weight"])
    assert (completed.description.frozen_head is None) == tied


@pytest.mark.parametrize("completed", ["untied"], indirect=True)
def test_a_provider_process_writes_the_same_bytes(completed: Learnt, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    base = Path(completed.loaded.base.settings.model)
    tree = tree_of(lab, base, completion_row)
    tree |= {"execution": {"executor": "processes"}, "baselines": []}
    again = carry_out(lab.write(tree), tmp_path / "home")

    before = completed.stored.artifact.diff.digest
    assert [outcome.record.digest for outcome in again.outcomes] == [before]


def test_a_language_model_has_nothing_for_head_only_to_train(
    completed: Learnt, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    base = Path(completed.loaded.base.settings.model)
    tree = tree_of(lab, base, completion_row, min_steps=2) | {"baselines": ["head_only"]}
    ran = carry_out(lab.write(tree), tmp_path / "home")

    assert "has no head to train" in str(ran.outcomes[1].record.reason)


def test_an_encoder_completes_no_prompts(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    save_kind(tmp_path / "base", "BERT", head="LMHeadModel")

    with pytest.raises(DataProblemsError, match="is an encoder"):
        carry_out(lab.write(tree_of(lab, tmp_path / "base", completion_row)), tmp_path / "home")


def test_a_headless_checkpoint_completes_no_prompts(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    save_kind(tmp_path / "base", "Llama")

    with pytest.raises(DataProblemsError, match="no language model's head"):
        carry_out(lab.write(tree_of(lab, tmp_path / "base", completion_row)), tmp_path / "home")


def test_the_command_line_prints_what_each_type_answers(
    labelled: Learnt, tagged: Learnt, completed: Learnt
) -> None:
    shown = {
        one.description.kind: caller(one.ran.home.path)("predict", "mine", text, "--format", "csv")
        for one, text in (
            (labelled, "the film was great"),
            (tagged, "the great film"),
            (completed, "the film was great"),
        )
    }
    heads = {kind: result.stdout.splitlines()[0] for kind, result in shown.items()}

    assert heads["multi_label"].startswith("text,labels,p(bad),p(good)")
    assert heads["tokens"].startswith("text,entities,tags")
    assert heads["causal_lm"] == "text,completion"
    assert all(result.exit_code == 0 for result in shown.values())


def test_the_base_is_restored_after_every_type(completed: Learnt, tagged: Learnt) -> None:
    for one in (completed, tagged):
        before = one.loaded.fingerprint()
        with one.stored.applied(one.loaded):
            assert one.loaded.fingerprint() != before
        assert one.loaded.fingerprint() == before
