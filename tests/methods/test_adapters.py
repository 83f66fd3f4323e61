"""Adapters of every type: one file, from which alone the adapted model comes back."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from base_kinds import WORDS, save_kind
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load, save

from streamlab.base import BaseSettings, load_base
from streamlab.errors import DiffError, TrainingError, UsageError
from streamlab.methods import Lora, MethodSettings, Peft
from streamlab.methods.adapter_file import AdapterFile, read_adapter, write_adapter
from streamlab.methods.api import TrainingJob, TrainingSettings
from streamlab.methods.peft import adapted
from streamlab.methods.peft_types import TYPES
from streamlab.methods.training_loop import endless
from streamlab.tasks.batches import encode, n_batches, training_batches
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

MakeJob = Callable[..., TrainingJob]

pytest.importorskip("peft")

# Settings that fit a width of 16, by what they are called here; all others are PEFT's defaults.
ADAPTERS: Mapping[str, dict[str, Any]] = {
    "adalora": {"type": "adalora", "init_r": 4, "target_r": 2},
    "beft": {"type": "beft"},
    "boft": {"type": "boft"},
    "c3a": {"type": "c3a", "block_size": 8},
    "delora": {"type": "delora"},
    "dora": {"type": "lora", "use_dora": True},
    "fourierft": {"type": "fourierft", "n_frequency": 20},
    "hra": {"type": "hra", "r": 2},
    "ia3": {"type": "ia3"},
    "layer norm": {"type": "ln_tuning"},
    "loha": {"type": "loha", "r": 2},
    "lokr": {"type": "lokr", "r": 2},
    "lora": {"type": "lora"},
    "lora everywhere": {"type": "lora", "r": 1, "target_modules": "all-linear"},
    "miss": {"type": "miss", "r": 2},
    "oft": {"type": "oft", "oft_block_size": 4},
    "prompt tuning": {"type": "prompt_tuning", "num_virtual_tokens": 4},
    "psoft": {"type": "psoft", "r": 4},
    "randlora": {"type": "randlora", "r": 4},
    "randlora, regenerated": {"type": "randlora", "r": 4, "save_projection": False},
    "road": {"type": "road", "group_size": 8},
    "shira": {"type": "shira", "r": 2},
    "tinylora": {"type": "tinylora"},
    "tinylora, regenerated": {"type": "tinylora", "save_projection": False},
    "unilora": {"type": "unilora", "theta_d_length": 40},
    "vblora": {"type": "vblora", "vector_length": 8, "num_vectors": 8},
    "vblora, largest": {
        "type": "vblora", "vector_length": 8, "num_vectors": 8, "save_only_topk_weights": True
    },
    "vera": {"type": "vera", "r": 8},
    "vera, regenerated": {"type": "vera", "r": 8, "save_projection": False},
    "waveft": {"type": "waveft", "n_frequency": 20},
}  # fmt: skip
each_adapter = pytest.mark.parametrize("name", ADAPTERS)


def peft(settings: dict[str, Any], **options: Any) -> Peft:
    return Peft.model_validate({"peft": settings, "learning_rate": 2e-2, **options})


def logits(model: torch.nn.Module, job: TrainingJob) -> torch.Tensor:
    batch = next(endless(job.batches))
    with torch.inference_mode():
        found: torch.Tensor = model(**batch.inputs).logits
    return found


Trained = tuple[bytes, torch.Tensor, TrainingJob]


@pytest.fixture(scope="module")
def trained(make_job: MakeJob) -> Callable[[str], Trained]:
    """Train an adapter for three steps: its file, the trained model's outputs, and the job."""
    done: dict[str, Trained] = {}

    def train(name: str) -> Trained:
        if name not in done:
            job = make_job(epochs=0.75, max_length=8)
            result = peft(ADAPTERS[name]).train(job)
            assert result.summary.n_steps == 3
            done[name] = result.data, logits(job.model, job), job
        return done[name]

    return train


@pytest.fixture
def lora(trained: Callable[[str], Trained]) -> AdapterFile:
    return read_adapter(trained("lora")[0])


def test_every_type_is_in_this_suite() -> None:
    assert {settings["type"] for settings in ADAPTERS.values()} == set(TYPES)


@each_adapter
def test_the_file_alone_brings_the_adapted_model_back(
    name: str, trained: Callable[[str], Trained], make_job: MakeJob
) -> None:
    data, outputs, job = trained(name)
    fresh = make_job(2)
    plain = logits(fresh.model, job)
    with torch.no_grad():
        for head in fresh.head.values():
            head.fill_(7.0)  # the stored head is to replace it

    with adapted(fresh.model, read_adapter(data)) as model:  # type: ignore[arg-type]
        again = logits(model, job)

    torch.testing.assert_close(again, outputs, rtol=1e-5, atol=1e-5)
    assert torch.equal(again.argmax(1), outputs.argmax(1))
    assert not torch.allclose(outputs, plain, atol=1e-3)


@each_adapter
def test_pefts_own_loader_reads_the_file(
    name: str, trained: Callable[[str], Trained], make_job: MakeJob, tmp_path: Path
) -> None:
    from peft import PeftModel

    data, outputs, job = trained(name)
    read_adapter(data).write_to(tmp_path)
    fresh: Any = make_job(2).model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that projections are made again, and of deprecated names
        model = PeftModel.from_pretrained(fresh, str(tmp_path))

    torch.testing.assert_close(logits(model.eval(), job), outputs, rtol=1e-5, atol=1e-5)


@each_adapter
def test_numbers_are_stored_in_half_precision_and_the_head_is_told_apart(
    name: str, trained: Callable[[str], Trained]
) -> None:
    data, _, job = trained(name)
    file = read_adapter(data)

    head, others = file.head(job.head), file.without_head(job.head)

    assert {n: t.shape for n, t in head.items()} == {n: p.shape for n, p in job.head.items()}
    assert len(head) + len(others) == len(file.tensors)
    assert others
    single = {n: t for n, t in others.items() if t.dtype == torch.float32}
    assert all(n.endswith("_topk_weights") for n in single)
    halves = {n: t for n, t in file.tensors.items() if t.is_floating_point() and n not in single}
    assert {t.dtype for t in halves.values()} == {torch.float16}
    assert any(bool(t.count_nonzero()) for t in others.values())


@each_adapter
def test_the_base_is_not_changed(name: str, trained: Callable[[str], Trained]) -> None:
    _, _, job = trained(name)

    for n, tensor in job.base.items():
        assert torch.equal(job.backbone[n].detach(), tensor)


def test_positions_and_projections_are_in_the_file_only_where_peft_saves_them(
    trained: Callable[[str], Trained],
) -> None:
    saved, regenerated = (read_adapter(trained(name)[0]) for name in ("vera", "vera, regenerated"))

    assert {n for n in saved.tensors if n.startswith("base_model.vera_")}
    assert not {n for n in regenerated.tensors if n.startswith("base_model.vera_")}
    assert regenerated.settings["projection_prng_key"] == 0
    for name, seed in (("fourierft", "random_loc_seed"), ("unilora", "proj_seed")):
        assert read_adapter(trained(name)[0]).settings[seed] > 0
    shira = read_adapter(trained("shira")[0]).tensors
    assert {t.dtype for n, t in shira.items() if "indices" in n} == {torch.int32}


def test_layers_are_pefts_choice_where_it_has_one(trained: Callable[[str], Trained]) -> None:
    def layers(name: str) -> set[str]:
        data, _, job = trained(name)
        names = read_adapter(data).without_head(job.head)
        return {n.partition(".layer.")[2].partition(".")[2].rpartition(".")[0] for n in names}

    assert layers("fourierft") == {"attention.self.query", "attention.self.value"}
    assert layers("ia3") == {
        "attention.self.key", "attention.self.value", "attention.output.dense", "output.dense"
    }  # fmt: skip
    norms = {"attention.output.LayerNorm.ln_tuning_layers", "output.LayerNorm.ln_tuning_layers"}
    assert layers("layer norm") == {"", *norms}  # the first stands for the embeddings'


def test_the_ranks_that_adalora_keeps_are_in_its_settings(
    trained: Callable[[str], Trained],
) -> None:
    file = read_adapter(trained("adalora")[0])

    pattern = file.settings["rank_pattern"]
    assert sum(map(sum, pattern.values())) == 2 * len(pattern)
    for name, kept in pattern.items():
        assert len(kept) == 4
        assert file.tensors[f"base_model.model.{name}"].shape == (sum(kept), 1)


def test_a_training_that_ends_early_keeps_the_ranks_of_its_best_weights(
    make_job: MakeJob,
) -> None:
    scores = iter([0.9, *[0.1] * 20])
    job = make_job(epochs=6.0, patience=1, evaluate_every=2)
    job = replace(job, validate=lambda: next(scores))

    result = peft(ADAPTERS["adalora"]).train(job)

    assert result.summary.n_steps == 4
    with adapted(make_job(2).model, read_adapter(result.data)) as again:  # type: ignore[arg-type]
        torch.testing.assert_close(logits(again, job), logits(job.model, job))


def test_shira_trains_another_mask_for_another_seed(make_job: MakeJob) -> None:
    def indices(seed: int, **given: Any) -> torch.Tensor:
        job = make_job(seed, epochs=0.25)
        tensors = load(peft({"type": "shira", "r": 1, **given}).train(job).data)
        return next(t for n, t in sorted(tensors.items()) if "indices" in n)

    assert not torch.equal(indices(1), indices(2))
    assert torch.equal(indices(1, random_seed=5), indices(2, random_seed=5))


def test_a_prompt_and_a_text_that_are_too_long_together_are_refused(
    trained: Callable[[str], Trained], make_job: MakeJob
) -> None:
    method = peft({"type": "prompt_tuning", "num_virtual_tokens": 13})
    with pytest.raises(TrainingError, match=r"13 virtual tokens and texts of 8 are more than the"):
        method.train(make_job(max_length=8))

    data, _, job = trained("prompt tuning")
    file = read_adapter(data)
    with (
        pytest.raises(DiffError, match=r"A text has 8 tokens, .* takes 7\. Lower"),
        adapted(make_job(2).model, file, longest=11) as model,  # type: ignore[arg-type]
    ):
        logits(model, job)


def test_lora_is_short_for_the_type_lora(make_job: MakeJob) -> None:
    short = Lora(r=3, lora_alpha=5, target_modules=("query",))
    long = peft(
        {"type": "lora", "r": 3, "lora_alpha": 5, "target_modules": ["query"]}, learning_rate=1e-3
    )

    first, second = (method.train(make_job(epochs=0.5)).data for method in (short, long))

    assert first == second
    tensors = read_adapter(first).tensors
    assert {t.shape[0] for n, t in tensors.items() if ".lora_A" in n} == {3}
    assert not any(".value." in n for n in tensors)
    assert (short.label, long.label) == ("lora", "lora")
    assert peft({"type": "fourierft"}).label == "fourierft"


def test_settings_are_dumped_and_read_again() -> None:
    read = TypeAdapter(MethodSettings)
    method = read.validate_python({"name": "peft", "peft": {"type": "vera", "r": 64}})

    assert read.validate_python(read.dump_python(method)) == method
    assert read.validate_json(read.dump_json(method)) == method


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"type": "lorra"}, r"unknown type 'lorra'\. Known: adalora, beft, .*, waveft\."),
        ({"type": "xlora"}, r"unknown type 'xlora'\. Known: "),
        ({"type": "lora", "rank": 8}, r"unknown key\. Known: .*r, "),
        ({"type": "lora", "lora_alfa": 8}, r"unknown key\. Did you mean `lora_alpha`\?"),
        ({"type": "vera", "n_frequency": 8}, "unknown key"),
        ({"type": "lora", "r": 0}, "must be at least 1"),
        ({"type": "lora", "r": 10**6}, "must be at most 4,096"),
        ({"type": "lora", "r": "8"}, "whole number"),
        ({"type": "lora", "init_lora_weights": "eva"}, "gaussian"),
        ({"type": "lora", "megatron_core": "os"}, "unknown key"),
        ({"type": "lora", "target_modules": "(a+)+$"}, "all-linear"),
        ({"r": 8}, "type"),
    ],
)
def test_unknown_settings_are_one_sentence_with_the_known_ones(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        peft(settings)


def test_a_type_that_the_installed_version_lacks_is_said(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft as library

    monkeypatch.delitem(library.PEFT_TYPE_TO_CONFIG_MAPPING, "UNILORA")

    with pytest.raises(UsageError, match=r"PEFT .* has no type `unilora`\. Install a newer"):
        peft({"type": "unilora"}).train(make_job())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"type": "lora", "target_modules": ["no_such"]}, "Name layers of the base in `target_mod"),
        ({"type": "vblora"}, "PEFT cannot put `vblora` .* must be divisible by `vector_length`"),
        ({"type": "oft", "r": 2, "oft_block_size": 4}, "PEFT refuses these settings of `oft`: You"),
        ({"type": "adalora", "init_r": 8}, "got `target_r` 8 and `init_r` 8. Raise `init_r`"),
        ({"type": "adalora", "tinit": 99}, "PEFT refuses these settings of `adalora`"),
        ({"type": "fourierft", "n_frequency": 1 << 20}, "product of the input and output"),
    ],
)
def test_settings_that_do_not_fit_the_base_are_refused(
    settings: dict[str, Any], reason: str, make_job: MakeJob
) -> None:
    with pytest.raises(TrainingError, match=reason):
        peft(settings).train(make_job())


def refuse(data: bytes, model: Any, reason: str) -> None:
    with pytest.raises(DiffError, match=reason), adapted(model, read_adapter(data)):
        pass


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"r": 50_000_000}, "`r`: must be at most"),
        ({"r": 64}, r"has `.*lora_A.weight` as \(8, 16\), and the model needs it as \(64, 16\)"),
        ({"r": "8"}, "`r`: must be a whole number"),
        ({"lora_alpha": 1e300}, "`lora_alpha"),
        ({"rank_pattern": {".*": 50_000_000}}, "`rank_pattern` must be left out"),
        ({"layer_replication": [[0, 10_000]]}, "`layer_replication` must be left out"),
        ({"init_lora_weights": "eva"}, "`init_lora_weights` must be left out"),
        ({"auto_mapping": {"parent_library": "os"}}, "`auto_mapping` must be left out"),
        ({"megatron_core": "os"}, "`megatron_core` must be left out"),
        ({"no_setting": 1}, "`no_setting` must be left out"),
        ({"peft_type": "XLORA"}, "type 'XLORA' is not used: .* Known: ADALORA, .*WAVEFT"),
        ({"peft_type": "lora"}, "type 'lora' is not used"),
        ({"peft_type": ["LORA"]}, "is not used"),
        ({"peft_type": "IA3"}, "must be left out"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "`task_type`: must be 'SEQ_CLS', 'TOKEN_CLS'"),
        ({"target_modules": "(a+)+$"}, "`target_modules"),
        ({"target_modules": ["no_such_layer"]}, "does not fit the model"),
        ({"target_modules": ["query", "dense"]}, "and the model needs it as"),
        ({"base_model_name_or_path": "https://example.org"}, "`base_model_name_or_path` must be"),
        ({"inference_mode": False}, "`inference_mode` must be left out"),
        ({"modules_to_save": ["(a+)+$"]}, "`modules_to_save"),
        ({"modules_to_save": ["bert"]}, "calls `bert` a part of the head, and the base does not"),
        ({"modules_to_save": ["encoder.layer"]}, "calls `encoder.layer` a part of the head"),
        ({"target_modules": ["encoder", "layer"]}, "`encoder` is no layer, but a group of them"),
    ],
)
def test_settings_that_ask_for_anything_else_never_reach_peft(
    lora: AdapterFile, make_job: MakeJob, change: dict[str, Any], problem: str
) -> None:
    data = write_adapter(lora.tensors, {**lora.settings, **change})

    refuse(data, make_job(2).model, problem)


LARGEST = 1 << 16


@each_adapter
def test_no_setting_takes_more_memory_than_the_tensors_justify(
    name: str, trained: Callable[[str], Trained], make_job: MakeJob
) -> None:
    file = read_adapter(trained(name)[0])
    numbers = [k for k, v in file.settings.items() if type(v) is int and "seed" not in k]

    for key in numbers:
        for value in (10**12, file.settings[key] + 1, -5):
            data = write_adapter(file.tensors, {**file.settings, key: value})
            model: Any = make_job(2).model
            try:
                with adapted(model, read_adapter(data)) as loaded:
                    n_held = sum(t.numel() for t in (*loaded.parameters(), *loaded.buffers()))
            except DiffError:
                continue
            assert n_held < LARGEST  # a number that has no part in any shape


@each_adapter
@pytest.mark.parametrize("damage", ["longer", "missing", "another", "integers", "infinite"])
def test_tensors_that_do_not_belong_are_refused(
    name: str, damage: str, trained: Callable[[str], Trained], make_job: MakeJob
) -> None:
    data, _, job = trained(name)
    file = read_adapter(data)
    tensors = dict(file.tensors)
    victim = sorted(file.without_head(job.head))[0]
    if damage == "longer":
        tensors[victim] = torch.cat([tensors[victim]] * 2)
    elif damage == "missing":
        del tensors[victim]
    elif damage == "another":
        tensors["base_model.model.bert.embeddings.word_embeddings.weight"] = torch.ones(200, 16)
    elif damage == "integers":
        tensors[victim] = torch.full_like(tensors[victim], 9, dtype=torch.int64) - 99
    else:
        tensors[victim] = torch.full_like(tensors[victim], float("nan"), dtype=torch.float32)

    with pytest.raises(DiffError):
        refuse_or_run(write_adapter(tensors, file.settings), make_job(2).model, job)


def refuse_or_run(data: bytes, model: Any, job: TrainingJob) -> None:
    with adapted(model, read_adapter(data)) as loaded:
        logits(loaded, job)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda places: places + 16, "positions outside"),
        (lambda places: places - 16, "positions outside"),
        (lambda places: places[:, :1].repeat(1, places.shape[1]), "or twice"),
        (lambda places: places.float(), "or twice"),
    ],
)
def test_positions_outside_the_matrix_and_twice_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor],
    problem: str,
    trained: Callable[[str], Trained],
    make_job: MakeJob,
) -> None:
    file = read_adapter(trained("shira")[0])
    tensors = {n: change(t) if "indices" in n else t for n, t in file.tensors.items()}

    refuse(write_adapter(tensors, file.settings), make_job(2).model, problem)


def test_a_damaged_file_is_refused_whatever_the_damage(
    trained: Callable[[str], Trained], make_job: MakeJob
) -> None:
    rng = random.Random(7)  # noqa: S311 - a draw of places
    for name in ("lora", "adalora", "shira", "vera", "vblora, largest", "prompt tuning"):
        data, _, job = trained(name)
        size = int.from_bytes(data[:8], "little")
        for _ in range(15):
            place = rng.randrange(8, 8 + size)
            damaged = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
            try:
                refuse_or_run(damaged, make_job(2).model, job)
            except DiffError:
                continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        save({"x": torch.ones(2)}),
        save({"x": torch.ones(2)}, metadata={"adapter_config": "[1]"}),
        save({"x": torch.ones(2)}, metadata={"adapter_config": "{"}),
        save({"x": torch.ones(2)}, metadata={"adapter_config": "[" * 100 + "]" * 100}),
        save({"x": torch.ones(2)}, metadata={"adapter_config": json.dumps({"peft_type": None})}),
    ],
)
def test_a_file_without_settings_is_no_adapter(data: bytes) -> None:
    with pytest.raises(DiffError):
        read_adapter(data)


def test_an_adapter_without_its_head_is_refused(lora: AdapterFile, make_job: MakeJob) -> None:
    tensors = {n: t for n, t in lora.tensors.items() if "classifier" not in n}
    file = replace(lora, tensors=tensors)

    with pytest.raises(DiffError, match=r"lacks `classifier.weight` of the task's head"):
        file.head(["classifier.weight"])
    refuse(write_adapter(tensors, lora.settings), make_job(2).model, "classifier.bias` as no tens")


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("BERT", "auto"),
        ("DeBERTa-v2", "auto"),
        ("ModernBERT", "auto"),
        ("T5", "auto"),
        ("GPT-2", "auto"),
        ("DistilBERT", ("q_lin",)),
    ],
)
def test_the_whole_head_of_every_architecture_is_stored(
    kind: str, layers: Literal["auto"] | tuple[str, ...], tmp_path: Path
) -> None:
    job, base = job_on(kind, tmp_path)

    result = Lora(target_modules=layers).train(job)

    file = read_adapter(result.data)
    stored = set(file.tensors) - set(file.without_head(base.head_names))
    assert stored == {f"base_model.model.{name}" for name in base.head_names}
    with adapted(base.build(n_outputs=2, seed=9), file) as again:
        torch.testing.assert_close(logits(again, job), logits(job.model.eval(), job))


@pytest.mark.parametrize("name", ["lora", "ia3", "layer norm", "fourierft", "prompt tuning"])
def test_what_is_adapted_by_default_is_found_in_other_architectures(
    name: str, tmp_path: Path
) -> None:
    job, base = job_on("DistilBERT", tmp_path)

    result = peft(ADAPTERS[name]).train(job)

    file = read_adapter(result.data)
    with adapted(base.build(n_outputs=2, seed=9), file) as again:
        torch.testing.assert_close(logits(again, job), logits(job.model.eval(), job))


def job_on(kind: str, folder: Path) -> tuple[TrainingJob, Any]:
    """Return the job of a tiny task on a tiny base of an architecture, and the base."""
    save_kind(folder, kind)
    base = load_base(BaseSettings(model=str(folder)), seed=1)
    model = base.build(n_outputs=2, seed=1)
    parameters = dict(model.named_parameters())
    examples = [Example(f"the {word} film", None, place % 2) for place, word in enumerate(WORDS)]
    task = task_type("classification")
    encoded = encode(examples, base.tokenizer, task, max_length=8)
    job = TrainingJob(
        task="mood",
        model=model,
        layout=base.layout,
        base=base.tensors,
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.head_names},
        n_batches=n_batches(encoded, 8),
        batches=lambda epoch: training_batches(encoded, batch_size=8, seed=1, epoch=epoch),
        loss=task.loss,
        training=TrainingSettings(batch_size=8, max_length=8, min_steps=3, epochs=1, threads=1),
        seed=1,
    )
    return job, base
