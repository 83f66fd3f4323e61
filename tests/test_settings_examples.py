"""The complete examples of the settings page run, on data as they describe them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from base_kinds import save_kind, save_tokenizer
from manual import EXAMPLES
from stream_samples import Lab, carry_out, make_lab

from streamlab.config import parse_yaml
from streamlab.tasks.types import TASK_TYPES

PATHS = sorted(EXAMPLES.glob("*.yaml"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_kind(folder, "Llama", head="ForCausalLM", tie_word_embeddings=True)
    save_tokenizer(folder, eos_token="[SEP]")  # noqa: S106
    return folder


def tree_of(path: Path) -> dict[str, Any]:
    return parse_yaml(path.read_text(encoding="utf-8"), origin=path.name)


LABELS: Mapping[str, Callable[[Mapping[str, Any]], list[Any]]] = {
    "classification": lambda settings: settings["labels"],
    "regression": lambda _: [1.5, 2.0, 4.5],
    "multi_label": lambda settings: [settings["labels"][:2], settings["labels"][1:], []],
    "causal_lm": lambda _: ["so good", "a film", "that was bad"],
}


def write(path: Path, settings: Mapping[str, Any]) -> None:
    """Write 60 records with the columns, labels and header line that a task says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".conll":
        lines = (f"the O\n{('film', 'book')[i % 2]} B-THING\nwas O\n\n" for i in range(60))
        path.write_text("".join(lines), encoding="utf-8")
        return
    columns = settings["columns"]
    names = settings.get("header") or list(columns.values())
    labels = LABELS[settings["kind"]](settings)
    records = [
        dict.fromkeys(names, f"the {('film', 'book')[i % 2]} was good {i}")
        | {columns["label"]: labels[i % len(labels)]}
        for i in range(60)
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter={".csv": ",", ".tsv": "\t"}[path.suffix])
        writer.writerows([] if "header" in settings else [names])
        writer.writerows(record.values() for record in records)


def test_every_type_of_task_has_an_example() -> None:
    kinds = {task["kind"] for path in PATHS for task in tree_of(path)["tasks"].values()}

    assert kinds == set(TASK_TYPES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_example_runs_on_data_as_it_describes_them(
    path: Path, lab: Lab, decoder: Path, tmp_path: Path
) -> None:
    tree = tree_of(path)
    (settings,) = tree["tasks"].values()
    for file in settings["files"].values():
        write(lab.folder / file, settings)
    base = decoder if settings["kind"] == "causal_lm" else lab.base
    tree |= {"base": {"model": str(base)}}
    tree["defaults"]["training"] = lab.tree()["defaults"]["training"]

    ran = carry_out(lab.write(tree), tmp_path / "home")

    n_methods = 1 + len(tree["baselines"])
    assert [outcome.record.status for outcome in ran.outcomes] == ["finished"] * n_methods
    assert {score.metric for score in ran.outcomes[0].scores} == set(settings["metric"])
