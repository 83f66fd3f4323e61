"""English word forms for the lexicon: regular rules, and the exceptions the lexicon needs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

_IRREGULAR_PLURALS: Final = MappingProxyType(
    {
        "goose": "geese",
        "potato": "potatoes",
        "wolf": "wolves",
        "knife": "knives",
    }
)

# base -> (past, past participle)
_IRREGULAR_PASTS: Final = MappingProxyType(
    {
        "bring": ("brought", "brought"),
        "buy": ("bought", "bought"),
        "choose": ("chose", "chosen"),
        "draw": ("drew", "drawn"),
        "fall": ("fell", "fallen"),
        "find": ("found", "found"),
        "forgive": ("forgave", "forgiven"),
        "hide": ("hid", "hidden"),
        "hurt": ("hurt", "hurt"),
        "kneel": ("knelt", "knelt"),
        "lend": ("lent", "lent"),
        "lose": ("lost", "lost"),
        "make": ("made", "made"),
        "sell": ("sold", "sold"),
        "sleep": ("slept", "slept"),
        "steal": ("stole", "stolen"),
        "upset": ("upset", "upset"),
        "weep": ("wept", "wept"),
    }
)
_DOUBLING: Final = frozenset({"chat", "deter", "grab", "nap", "regret", "snub", "spot"})


def plural(noun: str) -> str:
    """Give the plural of a noun."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if _ends_in_consonant_y(noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def past(verb: str) -> str:
    """Give the simple past."""
    return _IRREGULAR_PASTS[verb][0] if verb in _IRREGULAR_PASTS else _regular_past(verb)


def participle(verb: str) -> str:
    """Give the past participle."""
    return _IRREGULAR_PASTS[verb][1] if verb in _IRREGULAR_PASTS else _regular_past(verb)


def indefinite(phrase: str) -> str:
    """Put `a` or `an` before a phrase, by its first letter."""
    silent_or_vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "use", "eu"))
    return ("an " if silent_or_vowel else "a ") + phrase


def sentence(*parts: str, end: str = ".") -> str:
    """Join the parts that are not empty with spaces, capitalise the first letter and end it."""
    text = " ".join(part for part in parts if part)
    return text[0].upper() + text[1:] + end


def _regular_past(verb: str) -> str:
    if _ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    if verb in _DOUBLING:
        return verb + verb[-1] + "ed"
    return verb + ("d" if verb.endswith("e") else "ed")


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in "aeiou"
