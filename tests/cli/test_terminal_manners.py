"""What a terminal, a pipe and a shell get: colours, widths, a closed pipe, completion."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from stream_samples import make_lab

from streamlab.home.folder import Home
from streamlab.registry.registry import Registry

CLI = Path(__file__).parents[2] / "cli.py"
COLUMNS = 80


def surroundings(home: Home, **more: str) -> dict[str, str]:
    """Return an environment with nothing in it that says how to draw, `more` excepted."""
    unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | {"STREAMLAB_HOME": str(home.path), "TERM": "xterm-256color"} | more


def on_a_terminal(home: Home, *arguments: str, **environment: str) -> str:
    """Return what a command writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    command = [sys.executable, str(CLI), *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings(home, **environment)
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # as Linux tells that the other side was closed
                break
            if not more:
                break
            written += more
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


@pytest.mark.parametrize("arguments", [("ls", "scores"), ("show",), ("compare", "1", "2")])
def test_a_terminal_gets_bold_headings_and_none_where_no_color_is_set(
    arguments: tuple[str, ...], home: Home
) -> None:
    plain = on_a_terminal(home, *arguments, NO_COLOR="1")
    dumb = on_a_terminal(home, *arguments, TERM="dumb")
    drawn = on_a_terminal(home, *arguments, NO_COLOR="")  # set to nothing means nothing

    assert "\x1b[1m" in drawn
    assert "\x1b" not in plain + dumb
    assert plain.strip()


def test_a_table_fits_the_terminal_it_is_drawn_on(home: Home) -> None:
    drawn = on_a_terminal(home, "ls", "arrivals", "--columns", "all", NO_COLOR="1")
    chosen = on_a_terminal(home, "ls", "arrivals", NO_COLOR="1")

    assert max(map(len, (drawn + chosen).splitlines())) <= COLUMNS


def test_something_moves_while_a_run_starts(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    training = lab.tree()["defaults"]["training"]
    scenario = lab.scenario(defaults={"method": "head_only", "training": training})

    drawn = on_a_terminal(Home(tmp_path / "home"), "run", str(scenario))

    places = [drawn.index(text) for text in ("loading libraries", "loading base and data", "1/3")]
    assert places == sorted(places)
    assert "Next:" in drawn[places[-1] :]


def shell(line: str, home: Home) -> subprocess.CompletedProcess[str]:
    """Run a line in bash, `streamlab` being this checkout's."""
    define = f'set -o pipefail; streamlab() {{ "{sys.executable}" "{CLI}" "$@"; }}; '
    command = ["bash", "-c", define + line]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings(home))


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_reader_that_has_enough_ends_a_command_in_silence(form: str, home: Home) -> None:
    whole = shell(f"streamlab ls arrivals --columns all --format {form}", home)

    # The reader is gone before the first byte is written.
    result = shell(
        f"{{ sleep 0; streamlab ls arrivals --columns all --format {form}; }} | head -n 1", home
    )
    gone = shell(f"{{ sleep 1; streamlab ls arrivals --format {form}; }} | true", home)

    assert whole.stdout.startswith(result.stdout)
    assert result.stdout.count("\n") == 1
    assert (result.stderr, gone.stderr, gone.stdout) == ("", "", "")
    assert gone.returncode == 1


def test_data_and_notes_go_to_different_places(home: Home) -> None:
    result = shell("streamlab ls diffs --where 'file_bytes > 1TB' --format csv", home)

    assert result.stdout.startswith("digest,kind,")
    assert result.stdout.count("\n") == 1
    assert result.stderr.startswith("No diffs meet the condition")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sh", {"show"}),
        ("ls sc", {"scores"}),
        ("ls --co", {"--columns"}),
        ("compare --a", {"--all"}),
        ("plot st", {"storage"}),
        ("ls --format j", {"json"}),
    ],
)
def test_the_shell_completes_commands_subjects_and_options(
    words: str, expected: set[str], home: Home
) -> None:
    assert completed(words, home) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("show g", {"glue_stream-1"}),
        ("show ", {"latest", "tiny-1", "glue_stream-1", "sst2", "mrpc", "fine", "kept"}),
        ("ls scores --run ", {"latest", "tiny-1", "glue_stream-1", "fine"}),
        ("report t", {"tiny-1"}),
        ("compare tiny-1 glue", {"glue_stream-1"}),
        ("predict ", {"sst2", "mrpc", "kept"}),
        ("predict sst2 --run la", {"latest"}),
        ("merge k", {"kept"}),
        ("export s", {"scores", "sst2"}),
        ("rm mr", {"mrpc"}),
        ("tag --remove ", {"fine", "kept"}),
        ("purge --provider n", {"newswire"}),
        ("fit --run f", {"fine"}),
    ],
)
def test_the_shell_completes_names_of_the_home(words: str, expected: set[str], home: Home) -> None:
    with Registry.open(home.registry_url, clock=lambda: 0.0) as registry:
        registry.tags.add("fine", "run", "tiny-1")
        registry.tags.add("kept", "arrival", 1)

    assert completed(words, home) == expected


@pytest.mark.parametrize("damage", ["absent", "damaged", "another database"])
def test_without_a_registry_nothing_is_completed_and_nothing_said(
    damage: str, home: Home, tmp_path: Path
) -> None:
    place = home if damage != "absent" else Home(tmp_path / "absent")
    if damage == "damaged":
        (home.path / "registry.db").write_bytes(b"no database" * 1000)
    more = {"STREAMLAB_REGISTRY": "none://x"} if damage == "another database" else {}

    assert completed("predict ", place, **more) == set()
    assert completed("show l", place, **more) == {"latest"}
    assert not (tmp_path / "absent").exists()


def test_names_are_completed_without_the_libraries_that_train(home: Home) -> None:
    heavy = ["torch", "transformers", "datasets", "matplotlib", "pandas"]
    script = (
        "import sys\n"
        "from click.shell_completion import BashComplete\n"
        "from streamlab.cli import cli\n"
        "found = BashComplete(cli, {}, 'streamlab', '_').get_completions(['show'], 't')\n"
        f"print([item.value for item in found], [n for n in {heavy} if n in sys.modules])"
    )

    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, env=surroundings(home), check=True,
    )  # fmt: skip

    assert found.stdout == "['tiny-1'] []\n"


def completed(words: str, home: Home, **more: str) -> set[str]:
    """Return what bash is offered for the last of some words; nothing may be printed beside."""
    line = f"streamlab {words}"
    environment = surroundings(
        home,
        _STREAMLAB_COMPLETE="bash_complete",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
        **more,
    )

    found = subprocess.run(
        [sys.executable, str(CLI)], capture_output=True, text=True, env=environment
    )

    assert found.stderr == ""
    return {answer.split(",")[1] for answer in found.stdout.split()}


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_shell_gets_the_script_that_the_reference_tells_of(name: str, home: Home) -> None:
    document = (CLI.parent / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    environment = surroundings(home, _STREAMLAB_COMPLETE=f"{name}_source")

    found = subprocess.run(
        [sys.executable, str(CLI)], capture_output=True, text=True, env=environment, check=True
    )

    assert f"_STREAMLAB_COMPLETE={name}_source streamlab" in document
    assert f"_STREAMLAB_COMPLETE={name}_complete" in found.stdout


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ls runs > /dev/full", "No space left on device"),
        ("ls runs >&-", None),
        ("predict sst2 <&-", "Error: "),
        ("export arrival:1 -o .", "is a directory"),
        ("show arrival:" + 5000 * "9", "known by its number"),
        ("ls arrivals --run " + 5000 * "9", "no run"),
        ("ls placements --limit 99999999999999999999", None),
        ("ls runs --registry postgresql://host:port/db", "is not a database URL"),
    ],
)
def test_what_nobody_should_give_ends_in_one_paragraph(
    command: str, problem: str | None, home: Home
) -> None:
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} {CLI} {command}"],
        env=surroundings(home),
        capture_output=True,
        text=True,
    )

    assert "Traceback" not in result.stderr
    if problem is None:
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode in {1, 2}
        assert problem in result.stderr
