"""Peak memory of diffing, applying and merging checkpoints that may be larger than memory.

A pair of sharded decoder checkpoints is generated, with a share of the weights of the second one
changed. Each step runs in a process of its own, whose peak resident memory is compared with that of
an interpreter that does nothing: `diff` writes the exact diff and reads it back, `apply` decodes it
and compares every tensor with the second checkpoint, `merge` writes the model folder. Then the
same pair as an exact difference: `exact_diff` and `exact_apply`.

    python benchmarks/streaming.py --gigabytes 8 --json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HIDDEN, INNER, VOCABULARY = 2048, 5632, 32_000
SHARD_BYTES = 1 << 30
ENTRY_BYTES = {"bfloat16": 2, "float32": 4}


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=8.0, help="of each checkpoint")
    parser.add_argument("--density", type=float, default=0.01, help="share of changed weights")
    parser.add_argument("--dtype", choices=sorted(ENTRY_BYTES), default="bfloat16")
    parser.add_argument("--work", type=Path, help="where the checkpoints are written")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=("generate", "apply"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "generate":
        generate(options.work, options.gigabytes, options.density, options.dtype)
        return
    if options.step == "apply":
        apply(options.work)
        return
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        found = measure(Path(name), options)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| step | seconds | peak above start, MB |\n| --- | --- | --- |")
    for step in (name.removesuffix("_seconds") for name in found if name.endswith("_seconds")):
        print(f"| {step} | {found[f'{step}_seconds']} | {found[f'{step}_peak_mb']} |")
    print(f"\n{found['checkpoint_mb']} MB, {found['n_entries']:,} changed weights")


def measure(work: Path, options: argparse.Namespace) -> dict[str, float]:
    """Generate a pair, and run every step in its own process."""
    started = peak_of([sys.executable, "-c", "pass"])[0]
    own = [sys.executable, __file__, "--work", str(work), "--dtype", options.dtype]
    sizes = ["--gigabytes", str(options.gigabytes), "--density", str(options.density)]
    peak_of([*own, *sizes, "--step", "generate"])
    lab = [sys.executable, "-c", "from streamlab.cli import main; main()"]
    base, file, exact, merged = (
        str(work / name) for name in ("base", "tuned.sldiff", "tuned.slexact", "merged")
    )
    steps = {
        "diff": [*lab, "diff", base, str(work / "tuned"), "-o", file],
        "apply": [*own, "--step", "apply"],
        "merge": [*lab, "merge", file, "--base", base, "--to", merged],
        "exact_diff": [*lab, "diff", base, str(work / "tuned"), "-o", exact],
        "exact_apply": [*lab, "apply", base, exact, "--to", str(work / "result")],
    }
    found: dict[str, float] = {
        "checkpoint_mb": _megabytes(work / "base"),
        "largest_tensor_mb": VOCABULARY * HIDDEN * ENTRY_BYTES[options.dtype] // 10**6,
        "n_entries": json.loads((work / "changed.json").read_text(encoding="utf-8")),
    }
    for step, command in steps.items():
        peak, seconds = peak_of(command)
        found |= {f"{step}_peak_mb": round((peak - started) / 1e6), f"{step}_seconds": seconds}
        shutil.rmtree(work / "merged", ignore_errors=True)
    found["file_mb"] = round(Path(file).stat().st_size / 1e6, 1)
    found["file_bytes_per_entry"] = round(Path(file).stat().st_size / found["n_entries"], 2)
    found["exact_file_mb"] = round(Path(exact).stat().st_size / 1e6, 1)
    return found


def peak_of(command: list[str]) -> tuple[int, float]:
    """Return the peak resident bytes of a command and its seconds; stop if it fails."""
    started = time.perf_counter()
    # What a step prints is not among the figures.
    to_errors = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=to_errors)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss * 1024, round(time.perf_counter() - started, 1)


def _megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir()) // 10**6


def generate(work: Path, gigabytes: float, density: float, dtype_name: str) -> None:
    """Write two decoder checkpoints in shards; the second differs in a share of its weights."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaModel

    dtype = getattr(torch, dtype_name)
    layer = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER
    n_layers = round((gigabytes * 1e9 / ENTRY_BYTES[dtype_name] - VOCABULARY * HIDDEN) / layer)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        vocab_size=VOCABULARY,
        num_hidden_layers=max(1, n_layers),
        num_attention_heads=16,
        dtype=dtype,
        architectures=["LlamaModel"],
    )
    with torch.device("meta"):
        model = LlamaModel._from_config(config, dtype=dtype)
    split = split_torch_state_dict_into_shards(model.state_dict(), max_shard_size=SHARD_BYTES)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    folders = [work / name for name in ("base", "tuned")]
    n_changed = 0
    for folder in folders:
        folder.mkdir(parents=True)
        config.save_pretrained(folder)
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for file_name, names in split.filename_to_tensors.items():
        pair: tuple[dict[str, torch.Tensor], ...] = ({}, {})
        for name in names:
            old = torch.randn(shapes[name], generator=generator).mul_(0.02).to(dtype)
            new = old.clone()
            flat = new.view(-1)
            n_wanted = round(density * len(flat))
            places = torch.randint(len(flat), (n_wanted,), generator=generator).unique()
            flat[places] += torch.where(flat[places] < 0, -0.01, 0.01).to(dtype)
            n_changed += int((new != old).count_nonzero())
            pair[0][name], pair[1][name] = old, new
        for folder, tensors in zip(folders, pair, strict=True):
            save_file(tensors, folder / file_name, metadata={"format": "pt"})
    (work / "changed.json").write_text(json.dumps(n_changed), encoding="utf-8")


def apply(work: Path) -> None:
    """Apply the diff to the base one tensor at a time; the result must be the second checkpoint."""
    import torch

    from streamlab import DiffVector
    from streamlab.base import BaseSettings
    from streamlab.checkpoint import open_checkpoint
    from streamlab.diff.apply import changed_tensor

    base, tuned = (open_checkpoint(BaseSettings(model=str(work / n))) for n in ("base", "tuned"))
    diff = DiffVector.load(work / "tuned.sldiff", base=base.weights)
    for name, entries in zip(diff.layout.names, diff.tensors, strict=True):
        made = changed_tensor(base.weights.tensors[name], entries, diff.mode)
        if not torch.equal(made, tuned.weights.tensors[name]):
            sys.exit(f"{name} differs")


if __name__ == "__main__":
    main()
