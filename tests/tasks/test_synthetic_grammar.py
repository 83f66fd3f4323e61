"""The grammar of the synthetic data sets: how rows of opposite labels differ, family by family."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import product
from random import Random

import pytest

from streamlab.tasks.synthetic import grammar, lexicon
from streamlab.tasks.synthetic.entailment import entailment
from streamlab.tasks.synthetic.grammar import Telling, draw_event, draw_telling, tell
from streamlab.tasks.synthetic.sentence_pairs import (
    answerability,
    duplicate_questions,
    graded_similarity,
    paraphrase,
    pronouns,
)
from streamlab.tasks.synthetic.single_sentences import acceptability, sentiment

SEEDS = range(150)


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - rows, not secrets


def words_of(text: str | None) -> list[str]:
    assert text is not None
    return text.rstrip(".?").replace(",", "").lower().split()


def words_changed(one: str, other: str) -> int:
    """Count the words of the longer stretch wherever two sentences differ."""
    matcher = SequenceMatcher(None, words_of(one), words_of(other), autojunk=False)
    return sum(max(b - a, d - c) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal")


@pytest.mark.parametrize(
    ("base", "form"),
    [("cherry", "cherries"), ("box", "boxes"), ("wolf", "wolves"), ("key", "keys")],
)
def test_plurals_follow_the_rules_and_their_exceptions(base: str, form: str) -> None:
    assert grammar.plural(base) == form


@pytest.mark.parametrize(
    ("base", "past", "participle"),
    [
        ("carry", "carried", "carried"),
        ("annoy", "annoyed", "annoyed"),
        ("admire", "admired", "admired"),
        ("grab", "grabbed", "grabbed"),
        ("steal", "stole", "stolen"),
        ("hurt", "hurt", "hurt"),
    ],
)
def test_pasts_follow_the_rules_and_their_exceptions(base: str, past: str, participle: str) -> None:
    assert grammar.past(base) == past
    assert grammar.participle(base) == participle


def test_no_list_of_the_lexicon_says_a_word_twice() -> None:
    for name, entries in vars(lexicon).items():
        if name.isupper() and isinstance(entries, tuple):
            assert len(set(entries)) == len(entries), name


def test_an_unacceptable_sentence_is_a_minimal_change_of_an_acceptable_one() -> None:
    for seed in SEEDS:
        good, bad = (acceptability(label, seeded(seed)).text for label in (1, 0))

        assert good != bad
        same_words = Counter(words_of(good)) == Counter(words_of(bad))
        assert same_words or words_changed(good, bad) <= 2, (good, bad)


def test_verdicts_of_opposite_labels_differ_in_the_words_of_praise_only() -> None:
    praise = {*lexicon.WORDS["good"], *lexicon.WORDS["bad"]}
    for seed in SEEDS:
        good, bad = (words_of(sentiment(label, seeded(seed)).text) for label in (1, 0))
        if praise & {*good}:  # otherwise a verb carries the verdict
            assert [w for w in good if w not in praise] == [w for w in bad if w not in praise]


def test_the_polarity_of_the_words_does_not_tell_the_verdict() -> None:
    rng = seeded(0)
    right = 0
    for n in range(2000):
        words = words_of(sentiment(n % 2, rng).text)
        balance = sum(w in lexicon.WORDS["good"] for w in words) - sum(
            w in lexicon.WORDS["bad"] for w in words
        )
        right += (balance > 0) == (n % 2 == 1) if balance else rng.random() < 0.5

    assert 0.45 < right / 2000 < 0.55


def test_exchanging_the_roles_of_an_event_keeps_its_words() -> None:
    rng = seeded(0)
    for _ in range(200):
        event, telling = draw_event(rng, negated=0.5), draw_telling(rng)
        other = replace(event, doer=event.patient, patient=event.doer)
        told, swapped = (words_of(tell(e, telling)) for e in (event, other))

        assert told != swapped
        assert Counter(w for w in told if w not in {"was", "were"}) == Counter(
            w for w in swapped if w not in {"was", "were"}
        )


def test_the_eight_tellings_of_an_event_are_eight_texts() -> None:
    event = draw_event(seeded(5))
    tellings = [Telling(*t) for t in product((False, True), (0, 1), (False, True))]

    assert len({tell(event, telling) for telling in tellings}) == 8


def test_a_negated_event_reads_so_in_both_voices() -> None:
    event = replace(draw_event(seeded(5)), negated=True)

    for passive in (False, True):
        assert " not " in tell(event, Telling(passive, 0, fronted=False))


@pytest.mark.parametrize("build", [paraphrase, duplicate_questions, graded_similarity])
def test_the_texts_of_a_pair_are_never_the_same(build) -> None:  # type: ignore[no-untyped-def]
    for seed in SEEDS:
        for label in (0, 1):
            row = build(label, seeded(seed))
            assert row.text != row.text2


def test_shared_words_hardly_tell_duplicate_questions_from_others() -> None:
    def shared(label: int) -> float:
        rows = [duplicate_questions(label, seeded(seed)) for seed in range(500)]
        overlaps = [
            len({*words_of(r.text)} & {*words_of(r.text2)}) / len({*words_of(r.text)}) for r in rows
        ]
        return sum(overlaps) / len(overlaps)

    assert abs(shared(1) - shared(0)) < 0.08


def test_grades_stay_near_the_level_they_were_drawn_for() -> None:
    for seed in SEEDS:
        for level in range(6):
            assert abs(graded_similarity(level, seeded(seed)).label - level) <= 0.41


def test_a_sentence_that_does_not_answer_tells_of_the_same_people() -> None:
    small = {"who", "whom", "by", "when", "where", "why", "how", "did", "was", "were", "the"}
    for seed in SEEDS:
        row = answerability(1, seeded(seed))
        names = {w for w in words_of(row.text) if w not in small}

        assert len(names & {*words_of(row.text2)}) >= len(names) - 1


@pytest.mark.parametrize(
    ("text", "text2", "label"),
    [
        ("managed to", "did not", 1),
        ("failed to", "did not", 0),
        ("was forced to", "did not", 1),
        ("was unable to", "did not", 0),
        ("hoped to", "did not", 1),
    ],
)
def test_a_governing_verb_decides_whether_the_deed_was_done(
    text: str, text2: str, label: int
) -> None:
    rng = seeded(0)
    rows = [entailment(n % 2, rng) for n in range(3000)]

    found = {
        row.label
        for row in rows
        if f" {text} " in row.text and row.text2 and f" {text2} " in row.text2
    }

    assert found == {label}


def test_a_negated_hypothesis_follows_as_often_as_not() -> None:
    rng = seeded(0)
    rows = [entailment(n % 2, rng) for n in range(2000)]
    negated = [row.label for row in rows if row.text2 and " not " in row.text2]

    assert 0.45 < sum(negated) / len(negated) < 0.55


def test_the_readings_of_a_pronoun_differ_in_the_candidate_only() -> None:
    for seed in SEEDS:
        right, wrong = (pronouns(label, seeded(seed)) for label in (1, 0))

        assert right.text == wrong.text
        assert right.text2 is not None
        assert wrong.text2 is not None
        assert 1 <= words_changed(right.text2, wrong.text2) <= 2
        assert {*words_of(right.text2), *words_of(wrong.text2)} <= {*words_of(right.text)}


def test_neither_the_reason_nor_the_candidate_tells_the_right_reading() -> None:
    rng = seeded(0)
    rows = [pronouns(n % 2, rng) for n in range(3000)]

    for words in ("strong.", "sad.", "Anna ", "Peter "):
        right = [r.label for r in rows if r.text2 and words in r.text2]
        assert 0.25 < sum(right) / len(right) < 0.75


def test_the_right_reading_agrees_with_the_pronoun() -> None:
    rng = seeded(0)
    for n in range(300):
        row = pronouns(n % 2, rng)
        female = words_of(row.text2)[0].capitalize() in lexicon.WORDS["female_names"]

        assert (female == ("she" in words_of(row.text))) == (row.label == 1)
