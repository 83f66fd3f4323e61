"""A scenario from its file: what is refused and how, what is filled in, and its digest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab

from streamlab.config import scenario_digest
from streamlab.errors import ConfigError, StreamlabError, UsageError
from streamlab.methods import DiffPruning, FullFinetuning, HeadOnly, NonAdaptive
from streamlab.stream.scenario import LoadedScenario, load_scenario, resolve_scenario
from streamlab.stream.schedule import arrivals
from streamlab.tasks.sources.readers import read_split

MINIMAL: dict[str, Any] = {
    "version": 1,
    "name": "minimal",
    "base": {"model": "package:somewhere"},
    "providers": {"one": {"tasks": ["a"]}, "two": {"tasks": ["b"]}},
    "tasks": {"a": {"dataset": "glue/sst2"}, "b": {"dataset": "glue/mrpc"}},
}


def resolve(environment: dict[str, str] | None = None, /, **changes: Any) -> LoadedScenario:
    return resolve_scenario(
        MINIMAL | changes, origin="mine.yaml", folder=Path(), environment=environment or {}
    )


def problems(environment: dict[str, str] | None = None, /, **changes: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(environment, **changes)
    assert caught.value.origin == "mine.yaml"
    assert str(caught.value).startswith("mine.yaml has ")
    return caught.value.problems


def paths(found: tuple[str, ...]) -> list[str]:
    return [problem.partition(": ")[0] for problem in found]


def test_what_is_left_out_is_filled_in() -> None:
    scenario = resolve().scenario

    assert scenario.seeds == (1,)
    assert scenario.evaluation == "last"
    assert scenario.methods == (DiffPruning(),)
    assert scenario.storage.values == "auto"


def test_every_problem_is_told_at_once_under_its_path() -> None:
    found = problems(
        {},
        version=2,
        name="no spaces please",
        seeds=[1, -1],
        base={},
        bse={},
        defaults={
            "method": {"name": "diff_pruning", "target_density": 5},
            "training": {"threads": 0},
        },
        evaluation="sometimes",
        tasks={"a": {"dataset": "glue/sst2", "metric": "acuracy"}, "b": {}},
        storage={"values": "int3"},
    )

    assert sorted(paths(found)) == [
        "base.model",
        "bse",
        "defaults.method.target_density",
        "defaults.training.threads",
        "evaluation",
        "name",
        "seeds.1",
        "storage.values",
        "tasks.a.metric",
        "tasks.b.dataset",
        "version",
    ]
    told = "\n".join(found)
    assert "bse: unknown key. Did you mean `base`?" in told
    assert "tasks.b.dataset: is required and missing." in told
    assert "got 'sometimes'" in told
    assert "unknown metric 'acuracy'. Did you mean `accuracy`" in told


def test_a_fault_in_the_defaults_is_told_once_however_many_tasks_have_them() -> None:
    assert problems(defaults={"training": {"batchsize": 4}}) == (
        "defaults.training.batchsize: unknown key. Did you mean `batch_size`?",
    )


def test_a_fault_in_the_training_of_one_task_is_told_under_that_task() -> None:
    tasks = {"a": {"dataset": "glue/sst2", "training": {"epochs": -1}}, "b": MINIMAL["tasks"]["b"]}

    (problem,) = problems(tasks=tasks, defaults={"training": {"epochs": 2}})

    assert problem.startswith("tasks.a.training.epochs: ")
    assert problem.endswith("got -1.")


@pytest.mark.parametrize("training", [[1], 7, "fast", None])
def test_training_that_is_no_mapping_is_refused(training: Any) -> None:
    tasks = {"a": {"dataset": "glue/sst2", "training": training}, "b": MINIMAL["tasks"]["b"]}

    found = problems(tasks=tasks, defaults={"training": {"epochs": 2}})

    assert paths(found) == ["tasks.a.training"]


def test_a_task_that_no_provider_brings_is_refused() -> None:
    assert problems(providers={"one": {"tasks": ["a"]}}) == (
        "tasks.b: has no provider; add it to the `tasks` of one in `providers`.",
    )


def test_a_provider_of_a_task_that_is_not_there_is_refused_by_name() -> None:
    assert problems(providers={"one": {"tasks": ["a", "c"]}, "two": {"tasks": ["b"]}}) == (
        "providers.one.tasks.1: is not in `tasks` (a, b), got 'c'.",
    )


@pytest.mark.parametrize(
    ("providers", "who"),
    [
        ({"one": {"tasks": ["a", "b"]}, "two": {"tasks": ["b"]}}, "one, two"),
        ({"one": {"tasks": ["a", "b", "b"]}}, "one, one"),
    ],
)
def test_a_task_that_is_brought_twice_is_refused(providers: dict[str, Any], who: str) -> None:
    assert problems(providers=providers) == (f"tasks.b: has 2 providers: {who}; keep it with one.",)


def test_all_that_does_not_fit_together_is_told_at_once() -> None:
    found = problems(
        providers={"one": {"tasks": ["a", "x"]}, "two": {"tasks": ["a"]}},
        baselines=["head_only", "diff_pruning", "head_only"],
        seeds=[3, 1, 3],
    )

    assert paths(found) == [
        "providers.one.tasks.1",
        "tasks.a",
        "tasks.b",
        "baselines.1",
        "baselines.2",
        "seeds",
    ]
    assert found[-1] == "seeds: must differ from one another, got [3, 1, 3]."


@pytest.mark.parametrize(
    "change",
    [{"providers": {}}, {"tasks": {}, "providers": {}}, {"seeds": []}, {"providers": {"a": {}}}],
)
def test_a_scenario_of_nothing_is_refused(change: dict[str, Any]) -> None:
    assert problems(**change)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_a_name_that_would_not_do_as_a_file_name_is_refused(name: str) -> None:
    assert paths(problems(name=name)) == ["name"]


def test_baselines_may_be_given_by_their_bare_names() -> None:
    bare = resolve(
        baselines=["full_finetuning", {"name": "head_only", "learning_rate": 0.5}, "non_adaptive"]
    )
    full = resolve(
        baselines=[
            {"name": "full_finetuning"},
            {"name": "head_only", "learning_rate": 0.5},
            {"name": "non_adaptive"},
        ]
    )

    assert bare.scenario.baselines == (FullFinetuning(), HeadOnly(learning_rate=0.5), NonAdaptive())
    assert (bare.resolved, bare.digest) == (full.resolved, full.digest)


def test_an_unknown_baseline_is_told_which_there_are() -> None:
    (problem,) = problems(baselines=["full_finetunning"])

    assert problem.startswith("baselines.0.name: ")
    assert "'full_finetunning'" in problem
    assert "`full_finetuning`" in problem


def test_a_tasks_own_training_is_laid_over_the_defaults() -> None:
    own = {"dataset": "glue/sst2", "training": {"epochs": 9, "batch_size": 4}}
    loaded = resolve(
        defaults={"training": {"epochs": 2, "learning_rate": 0.5}},
        tasks={"a": own, "b": MINIMAL["tasks"]["b"]},
    )

    a, b = (loaded.scenario.tasks[name].training for name in ("a", "b"))

    assert (a.epochs, a.batch_size, a.learning_rate) == (9, 4, 0.5)
    assert (b.epochs, b.batch_size, b.learning_rate) == (2, 32, 0.5)
    assert loaded.resolved["tasks"]["a"]["training"]["learning_rate"] == 0.5


def test_variables_are_filled_in_for_the_run_and_stay_as_written_in_the_record() -> None:
    changes: dict[str, Any] = {
        "base": {"model": "${MODEL}"},
        "data": {"sources": [{"files": "${ROWS:-}"}, {"files": "${MODEL}/rows"}]},
        "defaults": {"training": {"epochs": "${EPOCHS:-3}"}},
    }
    first = resolve({"MODEL": "/here", "ROWS": "/rows"}, **changes)
    second = resolve({"MODEL": "/there", "EPOCHS": "5", "OTHER": "x"}, **changes)

    assert first.scenario.base.model == "/here"
    assert first.scenario.data.sources[0] == {"files": "/rows"}
    assert [s.scenario.tasks["a"].training.epochs for s in (first, second)] == [3, 5]
    assert first.resolved == second.resolved
    assert first.digest == second.digest
    assert first.resolved["base"]["model"] == "${MODEL}"
    assert first.resolved["data"]["sources"][1] == {"files": "${MODEL}/rows"}
    assert first.resolved["tasks"]["b"]["training"]["epochs"] == "${EPOCHS:-3}"
    assert "/here" not in str(first.resolved)


def test_a_variable_that_is_not_set_is_told_beside_all_other_problems() -> None:
    found = problems({}, base={"model": "${MODEL}"}, seeds="${SEEDS}", evaluation="never")

    assert paths(found) == ["base.model", "seeds", "evaluation"]
    assert found[0] == (
        "base.model: the environment variable `MODEL` is not set; set it, or give a default as "
        "`${MODEL:-...}`."
    )


def test_the_digest_is_of_every_setting_and_of_the_order_of_the_tasks() -> None:
    tasks = MINIMAL["tasks"]
    variants = [
        resolve(),
        resolve(seeds=[2]),
        resolve(evaluation="full"),
        resolve(baselines=["head_only"]),
        resolve(name="other"),
        resolve(storage={"values": "fp16"}),
        resolve(base={"model": "package:elsewhere"}),
        resolve(defaults={"training": {"threads": 1}}),
        resolve(defaults={"method": {"name": "diff_pruning", "structured": False}}),
        resolve(tasks={**tasks, "a": {"dataset": "glue/cola"}}),
        resolve(tasks={"b": tasks["b"], "a": tasks["a"]}),
        resolve(providers={"one": {"tasks": ["a", "b"]}}),
    ]

    assert len({variant.digest for variant in variants}) == len(variants)


def test_the_digest_is_not_of_how_a_scenario_is_written() -> None:
    spelt_out = {
        "seeds": [1],
        "evaluation": "last",
        "baselines": [],
        "storage": {"values": "auto"},
        "defaults": {"method": {"target_density": 5e-3, "name": "diff_pruning"}},
    }
    # Another order of the providers is no other stream, since the tasks have the order.
    providers = {"two": {"tasks": ["b"]}, "one": {"tasks": ["a"]}}

    assert resolve(**spelt_out, providers=providers).digest == resolve().digest


def test_a_new_setting_that_is_null_leaves_digests_as_they_are() -> None:
    loaded = resolve()
    tasks = {name: {**task, "new": None} for name, task in loaded.resolved["tasks"].items()}

    assert scenario_digest({**loaded.resolved, "tasks": tasks, "new": None}, ["a", "b"]) == (
        loaded.digest
    )
    assert scenario_digest({**loaded.resolved, "new": False}, ["a", "b"]) != loaded.digest


def test_what_is_recorded_makes_the_same_scenario_again() -> None:
    loaded = resolve(
        {"X": "1"}, baselines=["head_only"], data={"sources": [{"files": "${X}"}, "synthetic"]}
    )

    again = resolve_scenario(
        dict(loaded.resolved), origin="registry", folder=Path(), environment={"X": "1"}
    )

    assert again == loaded


def test_arrivals_derive_their_seeds_from_what_they_are_and_not_from_their_place() -> None:
    def seeds(**changes: Any) -> dict[Any, tuple[int, int]]:
        stream = arrivals(resolve(**changes).scenario)
        return {a.identity: (a.training_seed, a.data_seed) for a in stream}

    tasks = MINIMAL["tasks"]
    plain = seeds(seeds=[1, 2], baselines=["head_only"])
    turned = seeds(seeds=[2, 1], baselines=["head_only"], tasks={"b": tasks["b"], "a": tasks["a"]})

    assert plain == turned
    assert len({training for training, _ in plain.values()}) == len(plain) == 8
    # The rows are the same for every method, and others for every task and seed.
    assert len({data for _, data in plain.values()}) == 4
    assert {
        len({data for identity, (_, data) in plain.items() if identity[:4] == baselines})
        for baselines in {identity[:4] for identity in plain}
    } == {1}


def test_a_file_is_read_overridden_and_validated(lab: Lab) -> None:
    tree = lab.tree(name="overridden")
    path = lab.write(tree)

    loaded = load_scenario(
        path,
        overrides=[
            "seeds=[4, 5]",
            "defaults.training.learning_rate=1e-5",
            "tasks.mood.training.threads=3",
            "baselines=[head_only]",
        ],
    )

    scenario = loaded.scenario
    assert scenario.seeds == (4, 5)
    assert scenario.tasks["mood"].training.learning_rate == 1e-5
    threads = {name: entry.training.threads for name, entry in scenario.tasks.items()}
    assert threads == {"mood": 3, "same": 1, "degree": 1}
    assert scenario.baselines == (HeadOnly(),)
    assert loaded.folder == lab.folder
    assert loaded.digest != load_scenario(path).digest
    assert load_scenario(path, overrides=["seeds=[1]"]).digest == load_scenario(path).digest


def test_a_mistaken_override_is_told_like_a_mistake_in_the_file(lab: Lab) -> None:
    with pytest.raises(ConfigError, match=r"evaluation: must be 'last' or 'full'"):
        load_scenario(lab.scenario(), overrides=["evaluation=later"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must hold a mapping"),
        ("- 1", "must hold a mapping"),
        ("a: [", "is not valid YAML"),
        ("version: 1\nversion: 1", "is given twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=told) as caught:
        load_scenario(path)

    assert caught.value.origin == str(path)


def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml has 1 problem:\n  cannot be read: No "):
        load_scenario(tmp_path / "nowhere.yaml")


@pytest.fixture(params=["pipe", "device", "link"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a path that never ends or never begins when it is read."""
    path = tmp_path / "endless.jsonl"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return Path("/dev/zero") if request.param == "device" else path


def test_a_pipe_or_a_device_is_no_scenario_trace_key_or_data(no_file: Path) -> None:
    traced = {"tasks": ["a", "b"], "arrivals": {"process": "trace", "file": str(no_file)}}
    keyed = {"tasks": ["a", "b"], "private_key_file": str(no_file)}
    provider = resolve(providers={"one": keyed}).scenario.providers["one"]

    with pytest.raises(ConfigError, match="is not a regular file"):
        load_scenario(no_file)
    with pytest.raises(ConfigError, match="is not a regular file"):
        resolve(providers={"one": traced})
    with pytest.raises(UsageError, match="is not a regular file"):
        provider.find_private_key(1, "one", Path())
    with pytest.raises(StreamlabError, match=r"is not a regular file|unknown format"):
        read_split(no_file)


def test_a_file_too_large_for_a_scenario_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(ConfigError, match=r"is larger than 4\.19 MB"):
        load_scenario(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seeds": [1 << 63]}, "seeds.0: must be less than 2**63, got 9223372036854775808."),
        ({"data": {"max_eval_examples": 1 << 64}}, "data.max_eval_examples: must be less than"),
        ({"seeds": list(range(500_001))}, "there are 1,000,002 arrivals"),
        (
            {"providers": {"one": {"tasks": ["a", "b"], "n_arrivals": 10**9}}},
            "must be at most 1,000,000",
        ),
        (
            {"seeds": [1, 2], "providers": {"one": {"tasks": ["a", "b"], "n_arrivals": 10**6}}},
            "there are 2,000,000 arrivals",
        ),
        ({"execution": {"attempts": 10**12}}, "execution.attempts"),
        ({"queue": {"slots": 10**12}}, "queue.slots"),
        ({"defaults": {"training": {"threads": 10**12}}}, "defaults.training.threads"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_more_than_a_run_can_have_is_refused(changes: dict[str, Any], reason: str) -> None:
    (problem,) = problems(**changes)

    assert reason in problem


@pytest.mark.parametrize("values", ["auto", "sign"])
def test_values_are_stored_in_the_type_that_they_are_trained_for(values: str) -> None:
    method = {"name": "fixed_mask", "mask": "random", "quantize": {"type": "sign"}}

    loaded = resolve(defaults={"method": method}, storage={"values": values})

    assert loaded.resolved["defaults"]["method"]["quantize"] == {
        "type": "sign",
        "from": 0.4,
        "head": None,
    }
    again = resolve_scenario(dict(loaded.resolved), origin="again", folder=Path())
    assert again.digest == loaded.digest


def test_another_type_than_values_are_trained_for_is_refused() -> None:
    quantize = {"type": "int2", "from": 0.5}
    found = problems(
        defaults={"method": {"name": "diff_pruning", "quantize": quantize}},
        baselines=["head_only", {"name": "fixed_mask", "mask": "random", "quantize": quantize}],
        storage={"values": "int4"},
    )

    assert paths(found) == ["defaults.method.quantize.type", "baselines.1.quantize.type"]
    assert "trains values as 'int2', and `storage.values` is 'int4'" in found[0]
    assert "set it to 'int2'" in found[0]


def test_a_mask_that_leaves_zeros_is_stored_as_ternary() -> None:
    quantize = {"type": "sign"}
    found = problems(
        defaults={"method": {"name": "fixed_mask", "mask": "candidates", "quantize": quantize}},
        storage={"values": "sign"},
    )

    assert paths(found) == ["defaults.method.quantize.type"]
    assert "trains values as 'ternary', and `storage.values` is 'sign'" in found[0]


def test_another_type_than_a_head_is_trained_for_is_refused() -> None:
    quantize = {"type": "sign", "head": "int4"}
    found = problems(
        defaults={"method": {"name": "fixed_mask", "mask": "random", "quantize": quantize}},
        storage={"head": "sign"},
    )

    assert paths(found) == ["defaults.method.quantize.head"]
    assert "trains the head as 'int4', and `storage.head` is 'sign'" in found[0]
