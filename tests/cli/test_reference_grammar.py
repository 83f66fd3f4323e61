"""Every command takes every form of a reference to a run, an arrival or an artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from serving_samples import Call, caller, copied, learn
from stream_samples import make_lab

from streamlab.home.folder import Home
from streamlab.registry.registry import Registry

Invoke = Callable[..., Result]
# Calls to which a reference to a run is added, and that print what they found.
OF_A_RUN = {
    "ls": ["ls", "arrivals", "--format", "csv", "--run"],
    "show": ["show", "--format", "json"],
    "show a task": ["show", "task:sst2", "--format", "json", "--run"],
    "plot": ["plot", "storage", "--run"],
    "report": ["report"],
    "fit": ["fit", "--budget", "100MB", "--run"],
    "simulate": ["simulate", "--tasks", "10", "--run"],
    "export": ["export", "scores", "-o", "{file}", "--run"],
    "compare": ["compare", "--all", "{other}"],
    "rm": ["rm", "--format", "csv", "sst2", "--run"],
}
RUN = ("glue_stream-1", "1", "run:1", "run:glue_stream-1", "published", "run:published")
LATEST = ("tiny-1", "2", "latest", "run:latest", "newest")
DIGEST = "31f65eafa94c8d08f873e22891c02c2a5968fa731762b9a44bb0368b5d1ce0ef"
ARRIVAL = ("arrival:1", "best", "arrival:best")
DIFF = (DIGEST, DIGEST[:8], f"diff:{DIGEST[:4]}", "small", "diff:small")


@pytest.fixture
def tagged(call: Invoke) -> Invoke:
    """Put a tag on a run, the latest run, an arrival and a diff."""
    for name, thing in (
        ("published", "run:1"), ("newest", "latest"), ("best", "arrival:1"), ("small", "31f65e"),
    ):  # fmt: skip
        assert call("tag", name, thing).exit_code == 0
    return call


@pytest.mark.parametrize("command", OF_A_RUN)
def test_every_form_of_a_run_gives_the_same_output(
    command: str, tagged: Invoke, tmp_path: Path
) -> None:
    for forms, other in ((RUN, "tiny-1"), (LATEST, "glue_stream-1")):
        found = {}
        for form in forms:
            path = tmp_path / "scores.csv"
            words = [word.format(file=path, other=other) for word in OF_A_RUN[command]]
            result = tagged(*words, form)
            assert result.exit_code == 0, (form, result.stderr)
            found[form] = result.stdout + (path.read_text() if path.exists() else "")
            if command == "rm":
                assert tagged("restore", "sst2", "--run", form).exit_code == 0
        assert len(set(found.values())) == 1, found
        assert found[forms[0]]


@pytest.mark.parametrize("forms", [ARRIVAL, DIFF])
@pytest.mark.parametrize("command", ["show", "compare", "tag"])
def test_every_form_of_an_arrival_or_a_diff_is_shown_compared_and_tagged(
    command: str, forms: tuple[str, ...], tagged: Invoke
) -> None:
    other = "arrival:2" if forms == ARRIVAL else "diff:c26a"
    for form in forms:
        words = {"show": [form], "compare": [form, other], "tag": ["again", form]}[command]
        result = tagged(command, *words)
        assert result.exit_code == 0, (form, result.stderr)
        told = result.stdout + result.stderr
        assert (
            ("arrival 1" in told or "arrival:1" in told) if forms == ARRIVAL else DIGEST[:8] in told
        )
        if command == "tag":
            assert tagged("tag", "--remove", "again").exit_code == 0


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("1", [1]),
        ("arrival:1", [1]),
        ("best", [1]),
        ("diff:31f6", [1]),
        ("small", [1]),
        ("sst2@1", [1, 2, 3, 7]),
        ("task:mrpc@1", [4, 5, 6]),
        ("published", [1, 2, 3, 4, 5, 6]),
        ("newest", [7]),
    ],
)
def test_every_form_can_be_removed_and_restored(
    form: str, expected: list[int], tagged: Invoke
) -> None:
    for command in ("rm", "restore"):
        result = tagged(command, form, "--format", "json")
        assert result.exit_code == 0, result.stderr
        assert sorted(row["id"] for row in json.loads(result.stdout)) == expected


@pytest.mark.parametrize("form", ["sst2@1", "task:sst2@1", "arrival:1", "1", "best"])
def test_every_form_of_a_version_can_be_rolled_back_to(form: str, tagged: Invoke) -> None:
    result = tagged("rollback", form, *(["--run", "published"] if "@" in form else []))

    assert result.exit_code == 0
    assert result.stderr == "`sst2@1` is the highest version in `glue_stream-1` already.\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a trained sst2, a tag on its arrival and one on its diff."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    ran = learn(lab, tmp_path_factory.mktemp("ran") / "home")
    home = Home(copied(ran, tmp_path_factory.mktemp("served")))
    with Registry.open(home.registry_url, clock=lambda: 0.0) as registry:
        (arrival,) = registry.arrivals.list(task="sst2")
        registry.tags.add("best", "arrival", arrival.id)
        registry.tags.add("small", "diff", arrival.digest or "")
        registry.tags.add("first", "run", 1)
    return home


ARTIFACT = (
    "sst2", "task:sst2", "sst2@1", "{id}", "arrival:{id}", "best", "arrival:best",
    "{digest}", "diff:{short}", "small", "diff:small",
)  # fmt: skip


@pytest.mark.parametrize("command", ["predict", "merge", "export", "swap"])
def test_every_form_of_an_artifact_is_used(command: str, served: Home, tmp_path: Path) -> None:
    call: Call = caller(served.path)
    with Registry.open(served.registry_url, clock=lambda: 0.0) as registry:
        (arrival,) = registry.arrivals.list(task="sst2")
    digest = arrival.digest or ""
    names = {"id": arrival.id, "digest": digest[:10], "short": digest[:4]}
    forms = [form.format(**names) for form in ARTIFACT]
    if command == "swap":
        result = call("swap", *forms, "--repeats", 1, "--format", "csv")
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count(f"diff {digest[:12]}\n") == len(forms)
        return
    found = set()
    for form in forms:
        target = tmp_path / form.replace(":", "_")
        words = {
            "predict": [form, "a fine film", "--format", "json"],
            "merge": [form, "--to", target],
            "export": [form, "-o", target],
        }[command]
        result = call(command, *words)
        assert result.exit_code == 0, (form, result.stderr)
        file = target / "model.safetensors" if command == "merge" else target
        found.add(result.stdout if command == "predict" else file.read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("run", ["first", "latest", "1", "run:1", "glue_tiny-1", "run:first"])
@pytest.mark.parametrize("command", ["predict", "export", "swap"])
def test_a_task_is_looked_up_in_every_form_of_a_run(
    command: str, run: str, served: Home, tmp_path: Path
) -> None:
    words = {"predict": ["a fine film"], "export": ["-o", tmp_path / "x"], "swap": ["--repeats", 1]}

    result = caller(served.path)(command, "sst2", *words[command], "--run", run)

    assert result.exit_code == 0, result.stderr


COMMANDS = {
    "show": ["show"],
    "compare": ["compare", "latest"],
    "tag": ["tag", "new"],
    "rm": ["rm"],
    "restore": ["restore"],
    "rollback": ["rollback"],
    "report": ["report"],
    "ls --run": ["ls", "arrivals", "--run"],
    "show --run": ["show", "task:sst2", "--run"],
    "plot --run": ["plot", "storage", "--run"],
    "fit --run": ["fit", "--budget", "1MB", "--run"],
    "simulate --run": ["simulate", "--tasks", "1", "--run"],
    "export --run": ["export", "scores", "-o", "scores.csv", "--run"],
    "rm --run": ["rm", "sst2", "--run"],
    "rollback --run": ["rollback", "sst2@1", "--run"],
    "export": ["export", "-o", "x.sldiff"],
    "merge": ["merge", "--to", "folder"],
    "swap": ["swap"],
    "swap --run": ["swap", "--run"],
    "predict": ["predict"],
    "predict --run": ["predict", "sst2", "text", "--run"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("beest", "Did you mean `best`"),
        ("colour:1", "There is no kind `colour`. Known: run, arrival, diff, task, base."),
        ("run:", "names nothing"),
        ("base:", "names nothing"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_the_same_way_everywhere(
    command: str, form: str, message: str, tagged: Invoke
) -> None:
    if form == "beest" and (command in ("report", "rollback") or "--run" in command):
        tagged("tag", "best", "run:1")

    result = tagged(*COMMANDS[command], form)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("command", ["show", "compare", "tag", "rm", "restore"])
def test_a_reference_to_two_things_lists_both(command: str, tagged: Invoke) -> None:
    tagged("tag", "twice", "run:1")
    tagged("tag", "twice", "arrival:2")

    result = tagged(*COMMANDS[command], "twice")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "more than one thing. Say which: `run:glue_stream-1`, `arrival:2`." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "sst2"], "'sst2' is a task. Give a run;"),
        (["ls", "arrivals", "--run", "best"], "'best' is an arrival. Give a run;"),
        (["predict", "latest", "text"], "'latest' is a run. Give a task, an arrival or a diff;"),
        (
            ["rm", "base:cae662"],
            "'base:cae662' is a base. Give an arrival, a run, a task or a diff",
        ),
        (["rollback", "small"], "'small' is a diff. Give a task or an arrival;"),
        (["tag", "--remove", "task:best"], "A tag cannot be on a task."),
    ],
)
def test_what_is_of_another_kind_is_named_as_such(
    arguments: list[str], message: str, tagged: Invoke
) -> None:
    result = tagged(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
