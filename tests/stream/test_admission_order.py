"""All rules at once: the first one broken is the one that is named, in the documented order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from admission_samples import KEYS, admit, drawn, packed, rule_broken, scaled, submitted

import streamlab.diff
from streamlab.diff.format.container import encode
from streamlab.stream import admission
from streamlab.stream.admission import RULES, AdmissionContext, AdmissionSettings, content_digest
from streamlab.stream.providers.forgeries import for_another_base, padded
from streamlab.stream.submission import Submission

ROOT = Path(__file__).parents[2]
DATA = encode(drawn()).data


def everything_wrong() -> list[tuple[str, Submission, AdmissionSettings]]:
    """Return one submission that breaks every rule, then the same with the first one mended, ..."""
    large = scaled(0.5)
    copy = encode(large, value_type="fp32").data
    none = packed(copy, "values.codes", [0] * large.n_entries, "float32")
    gaps = packed(none, "positions.gaps", [2**32 - 1] * large.n_entries, "uint32")
    other = for_another_base(gaps)
    strict: dict[str, Any] = {
        "max_bytes": 100,
        "signatures": "required",
        "quota_tasks": 0,
        "max_density": 0.01,
        "max_norm": 0.1,
    }
    stages: list[tuple[str, bytes, dict[str, Any]]] = [
        ("size", other + b"x", {}),
        ("signature", other + b"x", {"max_bytes": 10**6}),
        ("quota", other + b"x", {"signatures": "off"}),
        ("container", other + b"x", {"quota_tasks": None}),
        ("base", other, {}),
        ("entries", gaps, {}),
        ("positions", gaps, {"max_density": 1.0}),
        ("values", none, {}),
        ("norm", copy, {}),
        ("duplicate", copy, {"max_norm": 100.0}),
    ]
    made = []
    for rule, data, mended in stages:
        strict |= mended
        made.append((rule, submitted(data), AdmissionSettings(**strict)))
    return made


def test_of_many_rules_broken_the_first_in_the_documented_order_is_named() -> None:
    known = AdmissionContext(
        contents={content_digest(scaled(0.5)): "`wire`"}, public_key=KEYS.public
    )
    stages = everything_wrong()

    found = [rule_broken(submission, settings, known) for _, submission, settings in stages]

    assert found == [rule for rule, _, _ in stages]
    assert (*found, "probe") == RULES


def test_the_rules_are_documented_in_their_order() -> None:
    page = (ROOT / "docs" / "concepts" / "admission.md").read_text(encoding="utf-8")

    assert tuple(re.findall(r"^\| `([a-z]+)` \|", page, flags=re.MULTILINE)) == RULES
    told = re.findall(r"^    ([a-z]+) {3,}", admission.__doc__ or "", flags=re.MULTILINE)
    assert tuple(told) == RULES


def test_every_rule_of_the_format_that_is_mapped_exists() -> None:
    sources = Path(streamlab.diff.__path__[0]).rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)

    assert [rule for rule in admission._RULE_OF if f'"{rule}"' not in text] == []


def test_a_padded_file_is_valid_but_for_its_size() -> None:
    data = padded(DATA, 100_000)

    assert admit(submitted(data)).n_head_entries > 25_000
    small = AdmissionSettings(max_bytes=100_000)  # type: ignore[arg-type]
    assert rule_broken(submitted(data), small) == "size"
