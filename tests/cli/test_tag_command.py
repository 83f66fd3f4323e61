"""`tag` names things, `show` takes the names, and the log tells of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from streamlab import __version__


def test_a_tag_is_made_listed_shown_and_taken_off(call: Callable[..., Result]) -> None:
    made = call("tag", "best", "arrival:5")
    listed = call("tag", "--format", "json")
    shown = call("show", "best")
    gone = call("tag", "--remove", "best")

    assert (made.exit_code, made.stdout, made.stderr) == (0, "", "`best` is on arrival 5.\n")
    assert [(r["name"], r["kind"], r["arrival_id"]) for r in json.loads(listed.stdout)] == [
        ("best", "arrival", 5)
    ]
    assert shown.stdout.startswith("arrival 5\n")
    assert gone.stderr == "Removed `best` from arrival 5.\n"
    assert call("show", "best").exit_code == 2
    nothing = call("tag")
    assert nothing.stdout == ""
    assert nothing.stderr == "There is no tag yet. Make one with: streamlab tag NAME REFERENCE\n"


@pytest.mark.parametrize(
    ("thing", "shown", "first"),
    [
        ("run:1", "mine", "run glue_stream-1"),
        ("tiny-1", "run:mine", "run tiny-1"),
        ("arrival:4", "arrival:mine", "arrival 4"),
        ("31f65eaf", "mine", "diff 31f65eaf"),
        ("diff:31f6", "diff:mine", "diff 31f65eaf"),
        ("latest", "mine", "run tiny-1"),
    ],
)
def test_show_takes_a_tag_for_what_it_is_on(
    thing: str, shown: str, first: str, call: Callable[..., Result]
) -> None:
    assert call("tag", "mine", thing).exit_code == 0

    assert call("show", shown).stdout.startswith(first)


def test_a_tag_may_be_given_by_another(call: Callable[..., Result]) -> None:
    call("tag", "one", "arrival:5")

    assert call("tag", "two", "one").stderr == "`two` is on arrival 5.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best"], "Say what to tag: `streamlab tag best arrival:1`"),
        (["best", "task:sst2"], "'task:sst2' is a task. Give a run, an arrival or a diff;"),
        (["best", "arrival:99"], "The registry holds no arrival 99."),
        (["best", "nothing"], "The registry holds no run, digest, task or tag 'nothing'."),
        (["12", "arrival:1"], "'12' cannot be a tag: begin with a letter"),
        (["--remove", "best"], "The registry holds no tag 'best'."),
        (["--remove", "tsk:best"], "There is no kind `tsk`. Did you mean `task`?"),
        (["--remove", "best", "arrival:1"], "`--remove` takes the name of a tag only"),
    ],
)
def test_what_cannot_be_tagged_is_refused(
    arguments: list[str], message: str, call: Callable[..., Result]
) -> None:
    result = call("tag", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert call("ls", "tags").stdout == ""


def test_a_name_on_two_kinds_is_refused_and_never_guessed(call: Callable[..., Result]) -> None:
    call("tag", "best", "arrival:5")
    call("tag", "best", "run:1")

    assert "Say which: `run:glue_stream-1`, `arrival:5`." in call("show", "best").stderr
    assert call("show", "run:best").stdout.startswith("run glue_stream-1\n")
    assert call("tag", "--remove", "run:best").exit_code == 0
    assert call("show", "best").stdout.startswith("arrival 5\n")


def test_the_log_holds_every_change_last_line_last(call: Callable[..., Result]) -> None:
    call("tag", "best", "arrival:5")
    call("rm", "5")
    call("restore", "5")

    rows = json.loads(call("ls", "events", "--limit", "3", "--format", "json").stdout)
    table = call("ls", "events", "--limit", "2").stdout.splitlines()
    few = json.loads(call("ls", "events", "--format", "json").stdout)

    assert [(row["kind"], row["subject"]) for row in rows] == [
        ("tag-added", "best"),
        ("arrival-removed", "5"),
        ("arrival-restored", "5"),
    ]
    assert {row["version"] for row in rows} == {__version__}
    assert len({row["digest"] for row in rows}) == 1
    assert few[-3:] == rows
    assert [row["kind"] for row in few[:2]] == ["base-added", "run-started"]
    assert table[0].split() == ["at", "kind", "subject", "message"]
    assert [line.split()[2] for line in table[1:]] == ["arrival-removed", "arrival-restored"]
