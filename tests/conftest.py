"""Tiny real models on disk, for every test that wants a base."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Triton's kernels are interpreted where there is no GPU; Triton reads this when it is imported.
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["home_fixtures"]

N_WORDS = 60


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what takes long, visibly, unless `-m` speaks of it."""
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes long; run by `pytest -m slow`"))


@pytest.fixture(scope="session")
def tiny_sizes() -> dict[str, Any]:
    """Return the sizes that BERT and its kin take, as small as they go."""
    return {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": N_WORDS,
        "max_position_embeddings": 20,
    }


@pytest.fixture(scope="session")
def save_model() -> Callable[[PreTrainedModel, Path], Path]:
    """Write a model's checkpoint, and a WordPiece tokenizer beside it."""
    # Here, and not above: most tests never need either library.
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    special = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP")}
    words = [*special.values(), *(f"w{i}" for i in range(N_WORDS - len(special)))]
    core = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(words)}, unk_token=special["unk_token"])
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(tokenizer_object=core, model_max_length=512, **special)

    def save(model: PreTrainedModel, folder: Path) -> Path:
        logging.disable_progress_bar()
        model.save_pretrained(folder)
        logging.enable_progress_bar()
        tokenizer.save_pretrained(folder)
        return folder

    return save
