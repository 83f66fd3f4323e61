"""The words of the synthetic data, read from `lexicon.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from streamlab.config import parse_yaml

_TEXTS: Final[Mapping[str, Any]] = parse_yaml(
    (files(__package__) / "lexicon.yaml").read_text(encoding="utf-8"), origin="lexicon.yaml"
)


def words(text: str) -> tuple[str, ...]:
    """Split a text at white space."""
    return tuple(text.split())


def _forms(name: str) -> list[list[str]]:
    return [one.split("/") for one in words(_TEXTS[name])]


FEMALE_NAMES: Final = words(_TEXTS["female_names"])
MALE_NAMES: Final = words(_TEXTS["male_names"])
NAMES: Final = FEMALE_NAMES + MALE_NAMES
PEOPLE: Final = words(_TEXTS["people"])
THINGS: Final = words(_TEXTS["things"])
KINDS: Final = MappingProxyType({kind: words(members) for kind, members in _TEXTS["kinds"].items()})
COLOURS: Final = words(_TEXTS["colours"])
QUALITIES: Final = words(_TEXTS["qualities"])
CITIES: Final = words(_TEXTS["cities"])
REASONS: Final = tuple(f"out of {feeling}" for feeling in words(_TEXTS["feelings"]))
DAYS: Final = words(_TEXTS["days"])
MONTHS: Final = words(_TEXTS["months"])
DEEDS: Final = tuple(
    tuple(tuple(synonyms.split("/")) for synonyms in opposites.split(":"))
    for opposites in words(_TEXTS["deeds"])
)
TAKERS: Final = words(_TEXTS["takers"])
ADVERBS: Final = words(_TEXTS["adverbs"])
GOOD: Final = words(_TEXTS["good"])
BAD: Final = words(_TEXTS["bad"])
LIKING: Final = words(_TEXTS["liking"])
DISLIKING: Final = words(_TEXTS["disliking"])
WORKS: Final = words(_TEXTS["works"])
ASPECTS: Final = words(_TEXTS["aspects"])
IRREGULAR_PLURALS: Final = dict(_forms("irregular_plurals"))
IRREGULAR_PASTS: Final = {verb: forms for verb, *forms in _forms("irregular_pasts")}
DOUBLING: Final = frozenset(words(_TEXTS["doubling"]))
STATES: Final = words(_TEXTS["states"])
MOODS: Final = words(_TEXTS["moods"])
MEETINGS: Final = tuple(_TEXTS["meetings"])
DONE_TO_THINGS: Final = words(_TEXTS["done_to_things"])
GOVERNED: Final = words(_TEXTS["governed"])
KEEPING: Final = tuple(_TEXTS["keeping"])
TURNING: Final = tuple(_TEXTS["turning"])
