"""Every command's help shows an example, and every example runs as it stands.

All run in a folder like that of somebody who has worked for a day: a home with the finished runs
`glue_stream-1` (sst2, rte and stsb, with a baseline) and `tiny-1`, of which an arrival was removed,
the scenario `scenarios/smoke.yaml`, the study `studies/first.yaml`, the checkpoints `base` and
`tuned`, those of three steps with their differences and a chain, texts, a diff file that somebody
sent, and another home beside the folder. Each command gets a folder of its own, its examples in
their order. An example that wants more in the folder adds it to `day`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from pathlib import Path

import pytest
import yaml
from click import Command
from click.testing import CliRunner
from exact_samples import write_checkpoint
from manual import columns_reference, every_command, reference, settings_reference
from stream_samples import Lab, carry_out, make_lab, task

from streamlab.cli import cli
from streamlab.exact.chain import Chain
from streamlab.exact.change_file import write_change
from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.methods import BUILTIN
from streamlab.registry.registry import Registry
from streamlab.views.listings import SUBJECTS

PATHS = every_command()
DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
TASKS = {"sst2": "mood", "rte": "same", "stsb": "degree"}  # the lab's three under other names


def examples(command: Command) -> list[str]:
    """Return the example calls in a command's help."""
    _, _, shown = (command.help or "").partition("Example:\n")
    lines = (line.strip() for line in shown.split("\n\n")[0].splitlines())
    return [line for line in lines if line.startswith("streamlab ")]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, made once; to be copied."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    folder = tmp_path_factory.mktemp("day")
    carry_out(scenario(lab, "glue_stream", baselines=["head_only"]), folder / "home")
    carry_out(scenario(lab, "tiny"), folder / "home")
    with Registry.open(Home(folder / "home").registry_url, clock=time.time) as registry:
        registry.removal.remove([8])  # of rte in tiny-1
    others = carry_out(scenario(lab, "elsewhere"), folder / "other-home")
    (folder / "reviews.jsonl").write_text('{"text": "dull"}\n{"text": "fine"}\n', encoding="utf-8")
    sent = others.outcomes[0].record.digest
    assert sent is not None
    shutil.copy(FolderStore(others.home.store).path(sent), folder / "sst2.sldiff")
    smoke = scenario(
        lab, "smoke", tasks={"sst2": task("mood")}, providers={"a": {"tasks": ["sst2"]}}
    )
    (folder / "scenarios").mkdir()
    # Rows are looked for beside the scenario.
    shutil.copytree(lab.folder / "rows", folder / "scenarios" / "rows")
    shutil.copy(smoke, folder / "scenarios" / "smoke.yaml")
    (folder / "studies").mkdir()
    shutil.copytree(lab.folder / "rows", folder / "studies" / "rows")
    (folder / "studies" / "first.yaml").write_text(first_study(lab), encoding="utf-8")
    shutil.copytree(lab.base, folder / "base")
    shutil.copytree(lab.base, folder / "tuned")
    change_weights(folder / "tuned")
    keep_steps(folder)
    return folder


def keep_steps(folder: Path) -> None:
    """Write checkpoints of one training, the differences between them, and a chain of eight."""
    for step in (20, 21, 22):
        write_checkpoint(folder / f"step-{step}", step=step - 20)
    for step in (21, 22):
        write_change(
            folder / f"step-{step - 1}", folder / f"step-{step}", folder / f"{step}.slexact"
        )
    chain = Chain(folder / "chain")
    for _ in range(8):
        chain.add(folder / "step-20", whole_every=10)


def scenario(lab: Lab, name: str, **changes: object) -> Path:
    tasks = {name: task(rows) for name, rows in TASKS.items()}
    tree = {"name": name, "tasks": tasks, "providers": {"press": {"tasks": list(tasks)}}}
    path: Path = lab.scenario(**(tree | changes))
    return path


def first_study(lab: Lab) -> str:
    """Return a study of the head alone, which takes no time."""
    shared = {key: lab.tree()[key] for key in ("base", "data")}
    shared["defaults"] = {"training": lab.tree()["defaults"]["training"]}
    study = {"version": 1, "name": "first", "seeds": [1], "reference": "head", "shared": shared}
    study |= {"tasks": {"sst2": task("mood")}, "methods": {"head": {"method": "head_only"}}}
    return yaml.safe_dump(study)


def change_weights(folder: Path) -> None:
    """Tune a checkpoint by hand."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["embeddings.word_embeddings.weight"][3] += 1
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("path", PATHS)
def test_every_example_of_the_help_runs(
    path: str, day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = examples(PATHS[path].command)
    folder = shutil.copytree(day, tmp_path / "day")
    shutil.move(folder / "other-home", tmp_path)
    monkeypatch.chdir(folder)
    environment = {"STREAMLAB_HOME": "home", "NO_COLOR": None, "HF_HUB_OFFLINE": "1"}

    assert calls, f"the help of `{path}` shows no example"
    for call in calls:
        # Serves until Ctrl-C, or wants a sweep: tests/html/test_live_page.py, test_sweep.py.
        if "--live" in call or "compare --sweep" in call:
            continue
        result = CliRunner().invoke(cli, shlex.split(call)[1:], env=environment)

        assert result.exit_code == 0, (call, result.stderr)
        assert result.stdout or result.stderr, call
        if call == "streamlab init scenario.yaml":
            # What it wrote wants a real base; the rest of the day goes on with a small one.
            shutil.copy("scenarios/smoke.yaml", "scenario.yaml")
            shutil.copytree("scenarios/rows", "rows")


def test_the_examples_of_the_guide_on_capacity_run(
    day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (DOCUMENT.parents[1] / "guides" / "capacity.md").read_text(encoding="utf-8")
    calls = page.split("```sh\n")[1].split("```")[0].splitlines()
    monkeypatch.chdir(shutil.copytree(day, tmp_path / "day"))

    assert len(calls) > 5
    for call in calls:
        environment = {"STREAMLAB_HOME": "home", "NO_COLOR": None}
        result = CliRunner().invoke(cli, shlex.split(call)[1:], env=environment)

        assert (result.exit_code, call.split()[0]) == (0, "streamlab"), result.stderr
        assert result.stdout, call


def test_an_example_is_a_call_of_its_own_command() -> None:
    for path, ctx in PATHS.items():
        others = [call for call in examples(ctx.command) if not call.startswith(path + " ")]

        assert [call for call in others if call != path] == []


def test_the_reference_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), (
        "write it anew: python docs/reference/manual.py > docs/reference/commands.md"
    )


def test_the_reference_of_settings_is_up_to_date() -> None:
    page = DOCUMENT.parent / "settings.md"

    assert page.read_text(encoding="utf-8") == settings_reference(), (
        "write it anew: python docs/reference/manual.py settings > docs/reference/settings.md"
    )


def test_the_reference_of_columns_is_up_to_date_and_has_every_subject() -> None:
    text = (DOCUMENT.parent / "columns.md").read_text(encoding="utf-8")

    assert re.findall(r"^## (.*)$", text, re.M) == [*SUBJECTS]
    assert text == columns_reference(), (
        "write it anew: python docs/reference/manual.py columns > docs/reference/columns.md"
    )


def test_the_reference_of_settings_describes_every_built_in_method_and_process() -> None:
    text = settings_reference()

    for name in BUILTIN:
        assert f"\n## defaults.method: {name}\n" in text
    for name in ("as_listed", "periodic", "poisson", "gamma", "burst", "trace"):
        assert f"\n## providers.NAME.arrivals: {name}\n" in text


def test_the_reference_has_every_command() -> None:
    text = reference()

    assert [line[3:] for line in text.splitlines() if line.startswith("## streamlab")] == [*PATHS]
    shown = "".join(part.split("```")[0] for part in text.split("```text")[1:])
    assert max(map(len, shown.splitlines())) <= 80


def test_the_help_of_ls_names_every_subject() -> None:
    told = (PATHS["streamlab ls"].command.help or "").split("\n\n")[0]

    assert [subject for subject in SUBJECTS if subject not in told] == []
