"""Every architecture works or is refused by name: the table in docs/reference/bases.md.

Write the table anew with STREAMLAB_WRITE_EXPECTED=1 and `-m "slow or not slow"`.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from base_kinds import BAD, FILLERS, GOOD, KINDS, save_kind
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import streamlab
from streamlab.errors import SourceError
from streamlab.inference.merge import merge_to
from streamlab.stream.lab import Outcome

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bases.md"
HEADER = "| architecture | result | padding | longest input | head | `lora` |"
OFTEN = ("BERT", "DeBERTa-v2", "XLNet", "FNet", "T5", "GPT-2")  # the others are marked slow
EVERY = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
WORDS_OF_REASON = {
    "since the model sees the padding": "refused: answers depend on padding",
    "it fails on texts of": "refused: fails on short texts",
    "would be random numbers": "refused: a part of the model is missing",
}


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, str]]:
    """The rows of the table; written to the page at the end where that is asked for."""
    found: dict[str, str] = {}
    yield found
    if os.environ.get("STREAMLAB_WRITE_EXPECTED") and len(found) == len(KINDS):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEADER)
        after = rest.partition("\n\n")[2]
        table = "\n".join([HEADER, "|---|---|---|---|---|---|", *found.values()])
        PAGE.write_text(f"{before}{table}\n\n{after}", encoding="utf-8")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task in files: texts of 3 to 13 words, one of which decides."""
    rng = random.Random(3)  # noqa: S311 - a draw of words
    folder = tmp_path_factory.mktemp("rows") / "mood"
    folder.mkdir()
    for split, count in (("train", 80), ("dev", 24)):
        lines = []
        for number in range(count):
            words = [rng.choice(FILLERS) for _ in range(rng.randint(2, 12))]
            words.insert(rng.randrange(len(words) + 1), rng.choice((BAD, GOOD)[number % 2]))
            lines.append(
                json.dumps({"text": " ".join(words), "label": ("bad", "good")[number % 2]})
            )
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def scenario(folder: Path, examples: Path) -> Path:
    training = {
        "batch_size": 8, "max_length": 24, "min_steps": 6, "epochs": 0.5, "learning_rate": 5e-3,
        "head_learning_rate": 2e-2, "threads": 1, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    tree = {
        "version": 1,
        "name": "kind",
        "base": {"model": str(folder)},
        "data": {"sources": [{"files": str(examples.parent)}]},
        "defaults": {"method": {"name": "diff_pruning", "target_density": 0.05}},
        "providers": {"reviews": {"tasks": ["mood"]}},
        "tasks": {"mood": {"dataset": "mood"}},
        "baselines": ["full_finetuning", "lora"],
    }
    tree["defaults"] = {**tree["defaults"], "training": training}  # type: ignore[dict-item]
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("kind", EVERY)
def test_an_architecture_answers_as_plain_transformers_does_or_is_refused(
    kind: str, rows: dict[str, str], examples: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    save_kind(tmp_path / "base", kind)
    try:
        outcomes = list(
            streamlab.outcomes(scenario(tmp_path / "base", examples), tmp_path / "home")
        )
    except SourceError as refused:
        said = next(short for long, short in WORDS_OF_REASON.items() if long in str(refused))
        rows[kind] = f"| {kind} | {said} | | | | |"
    else:
        rows[kind] = worked(kind, outcomes, examples, tmp_path)

    if not os.environ.get("STREAMLAB_WRITE_EXPECTED"):
        assert rows[kind] in PAGE.read_text(encoding="utf-8").splitlines()


def worked(kind: str, outcomes: list[Outcome], examples: Path, folder: Path) -> str:
    """Compare the stored diff with plain transformers, and return the row of the table."""
    main, full, lora = outcomes
    assert (main.record.status, full.record.status) == ("finished", "finished")
    dev = [json.loads(line) for line in (examples / "dev.jsonl").read_text().splitlines()]
    texts = [example["text"] for example in dev]
    home = streamlab.open_home(folder / "home")
    loaded, task = home.load_base(), home.task("mood")
    with task.applied(loaded) as served:
        assert served.on.n_changed > 0
        many, single = (served.predict(texts, batch_size=size) for size in (64, 1))
    merge_to(loaded, task, folder / "merged")
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder / "merged")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")  # as it was, without any padding
    n_right = 0
    for example, together, alone in zip(dev, many, single, strict=True):
        with torch.inference_mode():
            inputs = tokenizer(example["text"], return_tensors="pt", truncation=True, max_length=24)
            plain = model(**inputs).logits.softmax(-1)[0].tolist()
        for found in (together, alone):
            shares = [found.probabilities[name] for name in model.config.id2label.values()]
            assert shares == pytest.approx(plain, abs=2e-5)
        n_right += model.config.id2label[plain.index(max(plain))] == example["label"]
    (score,) = (s.value for s in main.scores if s.split == "dev" and s.is_primary)
    assert score == pytest.approx(n_right / len(dev))
    base = loaded.base
    heads = ", ".join(dict.fromkeys(name.split(".")[0] for name in base.head_names))
    layers = "works" if lora.record.status == "finished" else "needs `target_modules`"
    assert layers == "works" or "Name layers of the base in `target_modules`" in str(
        lora.record.reason
    )
    side = base.tokenizer.padding_side
    return f"| {kind} | works | {side} | {base.max_length} | {heads} | {layers} |"
