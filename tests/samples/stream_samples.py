"""A lab small enough for tests: a random base of two layers, three tasks in files, scenarios."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streamlab.home.folder import Home
from streamlab.registry.records import ArrivalRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run
from streamlab.stream.lab import Outcome

GOOD = ("good", "great", "fine", "lovely", "superb")
BAD = ("bad", "awful", "poor", "dull", "dreadful")
THINGS = ("film", "book", "play", "song", "meal", "walk", "game", "talk")
FILLERS = ("the", "a", "was", "is", "very", "quite", "and", "so", "this", "that")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIONS = 32  # tokens the base takes at most
N_TRAIN, N_DEV = 42, 24

Row = dict[str, Any]


@dataclass(frozen=True)
class Lab:
    """A folder with the base in `base/`, rows in `rows/` and scenarios beside them."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def tree(self, **changes: Any) -> dict[str, Any]:
        """Return a scenario of three tasks from two providers; `changes` replace top-level keys."""
        return {
            "version": 1,
            "name": "tiny",
            "base": {"model": str(self.base)},
            "data": {"sources": []},
            "defaults": {
                # So small a base learns with a high rate only.
                "method": {
                    "name": "diff_pruning",
                    "target_density": 0.05,
                    "fixed_mask_learning_rate": 5e-3,
                },
                "training": {
                    "batch_size": 8,
                    "max_length": 16,
                    "epochs": 2,
                    "min_steps": 12,
                    "learning_rate": 2e-3,
                    "head_learning_rate": 2e-2,
                    "threads": 1,
                    "precision": "fp32",
                    "device": "cpu",
                },
            },
            **only("mood", "same", "degree"),
        } | changes

    def write(self, tree: Mapping[str, Any], *, file: str | None = None) -> Path:
        """Write a scenario file, called `<name>.yaml` if nothing else is said."""
        path = self.folder / (file or f"{tree['name']}.yaml")
        path.write_text(yaml.safe_dump(dict(tree), sort_keys=False), encoding="utf-8")
        return path

    def scenario(self, **changes: Any) -> Path:
        """Write the scenario of `tree`."""
        return self.write(self.tree(**changes))


@dataclass(frozen=True)
class Ran:
    """A scenario that was run, and what came of it."""

    path: Path
    home: Home
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Elsewhere:
    """Homes that another process left behind; to be read only."""

    same: Home  # the scenario of `plain`
    shuffled: Home  # the same with its tasks in another order
    killed: Home  # the scenario of `plain`, killed while it learnt the second task


def carry_out(path: Path, home: Path, **options: Any) -> Ran:
    """Run a scenario to its end."""
    return Ran(path, Home(home), tuple(run(path, home, **options)))


def reading(home: Home) -> Registry:
    """Open a home's registry to be read."""
    return Registry.open(home.registry_url, clock=time.time, read_only=True)


def runs_in(home: Home) -> tuple[RunRecord, ...]:
    with reading(home) as registry:
        return registry.runs.list()


def arrivals_in(home: Home, **choice: Any) -> tuple[ArrivalRecord, ...]:
    with reading(home) as registry:
        return registry.arrivals.list(**choice)


def scores_in(home: Home) -> tuple[ScoreRecord, ...]:
    with reading(home) as registry:
        return registry.scores.list()


def stored(home: Home) -> dict[str, bytes]:
    """Return the bytes of every file in the store by its path, whatever it is called."""
    paths = (path for path in home.store.rglob("*") if path.is_file())
    return {str(path.relative_to(home.store)): path.read_bytes() for path in paths}


def task(name: str, **settings: Any) -> dict[str, Any]:
    """Return a task's part of a scenario; its rows lie in `rows/<name>`."""
    kind = {"kind": "regression"} if name == "degree" else {}
    return {"dataset": name, "files": {"folder": f"rows/{name}"}, **kind, **settings}


def only(*names: str) -> dict[str, Any]:
    """Return the `tasks` and `providers` of some of the tasks, in the order given."""
    mine = {"press": [n for n in names if n != "same"], "school": [n for n in names if n == "same"]}
    return {
        "tasks": {name: task(name) for name in names},
        "providers": {who: {"tasks": brought} for who, brought in mine.items() if brought},
    }


def make_lab(folder: Path) -> Lab:
    """Write the base and the rows."""
    lab = Lab(folder)
    _write_base(lab.base)
    draw = random.Random(7)  # noqa: S311 - rows, not secrets
    for name, make in (("mood", _mood), ("same", _same), ("degree", _degree)):
        for split, count in (("train", N_TRAIN), ("dev", N_DEV)):
            write_rows(
                folder / "rows" / name / f"{split}.jsonl", [make(draw) for _ in range(count)]
            )
    return lab


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _sentence(draw: random.Random, word: str) -> str:
    start = [draw.choice(FILLERS) for _ in range(draw.randrange(5))]
    return " ".join([*start, draw.choice(THINGS), "was", word])


def _mood(draw: random.Random) -> Row:
    label = draw.randrange(2)
    return {"text": _sentence(draw, draw.choice((BAD, GOOD)[label])), "label": label}


def _same(draw: random.Random) -> Row:
    label = draw.randrange(2)
    first = draw.randrange(2)
    second = first if label else 1 - first
    words = (BAD, GOOD)
    return {
        "text": _sentence(draw, draw.choice(words[first])),
        "text2": _sentence(draw, draw.choice(words[second])),
        "label": label,
    }


def _degree(draw: random.Random) -> Row:
    place = draw.randrange(5)
    return {"text": _sentence(draw, GOOD[place]), "label": place + draw.random()}


def _write_base(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    words = (*SPECIAL, *GOOD, *BAD, *THINGS, *FILLERS)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    _write_tokenizer(folder, words)


def _write_tokenizer(folder: Path, words: tuple[str, ...]) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    places = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(places, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", places["[CLS]"]), ("[SEP]", places["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        unk_token="[UNK]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
        pad_token="[PAD]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        mask_token="[MASK]",  # noqa: S106
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
