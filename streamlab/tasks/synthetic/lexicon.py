"""The words of the synthetic data, read from `lexicon.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from streamlab.config import parse_yaml

if TYPE_CHECKING:
    from random import Random

_TEXTS: Final[Mapping[str, Any]] = parse_yaml(
    (files(__package__) / "lexicon.yaml").read_text(encoding="utf-8"), origin="lexicon.yaml"
)

WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        name: tuple(words.split() if isinstance(words, str) else words)
        for name, words in (*_TEXTS.items(), *_TEXTS["kinds"].items())
    }
)
NAMES: Final = WORDS["female_names"] + WORDS["male_names"]
REASONS: Final = tuple(f"out of {feeling}" for feeling in WORDS["feelings"])
DEEDS: Final = tuple(
    tuple(tuple(synonyms.split("/")) for synonyms in opposites.split(":"))
    for opposites in WORDS["deeds"]
)
IRREGULAR_PLURALS: Final = dict(forms.split("/") for forms in WORDS["irregular_plurals"])
IRREGULAR_PASTS: Final = {
    verb: forms for verb, *forms in (words.split("/") for words in WORDS["irregular_pasts"])
}


def pick(rng: Random, what: str) -> str:
    """Draw one of the words of a list of the lexicon, or of a kind."""
    return rng.choice(WORDS[what])
