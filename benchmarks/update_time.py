"""Time of the gated stage's update compared with Adam's, without forward and backward.

Medians of one process, in turn: the fused gated step (unstructured and structured, compiled and in
PyTorch) and PyTorch's fused AdamW, on tensors of all-MiniLM-L6-v2's shapes. A task uses only some
words of the vocabulary (`--words`); one line shows the step with all in use. Compare ratios within
one run: machines differ.

    python benchmarks/update_time.py --threads 2 --repeats 20
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import torch

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.hard_concrete import GroupGates, NoGroupGates, Stretch
from streamlab.methods.kernels.gated_weights import GatedWeights
from streamlab.methods.kernels.native import NativeStep, find_native_step

WIDTH, N_WORDS = 384, 30522
# Word embeddings, then six layers of attention, feed-forward and small tensors.
SHAPES = (
    *((N_WORDS, WIDTH), (512, WIDTH), (2, WIDTH), (WIDTH,), (WIDTH,)),
    *(
        ((WIDTH, WIDTH), (WIDTH,)) * 4
        + ((WIDTH,), (WIDTH,), (1536, WIDTH), (1536,), (WIDTH, 1536), (WIDTH,), (WIDTH,), (WIDTH,))
    )
    * 6,
    *((WIDTH, WIDTH), (WIDTH,)),
)


def main() -> None:
    """Print the table, or with --json one flat object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="time the PyTorch step too (slow)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--words", type=int, default=4000, help="rows of the embeddings in use")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps: dict[str, Callable[[], object]] = {"adamw": _adamw()}
    native = find_native_step(options.threads)
    kinds: dict[str, NativeStep | None] = {"compiled": native} if native else {}
    if options.eager or native is None:
        kinds["eager"] = None
    for kind, step in kinds.items():
        for structured in (False, True):
            name = f"{kind}_structured" if structured else kind
            steps[name] = _gated(step, structured=structured, n_words=options.words)
    if native:
        steps["compiled_all_words"] = _gated(native, structured=True, n_words=N_WORDS)
    seconds = _in_turn(steps, options.repeats)
    ratios = {f"{name}_over_adamw": seconds[name] / seconds["adamw"] for name in list(steps)[1:]}
    if options.json:
        print(json.dumps({f"{n}_seconds": s for n, s in seconds.items()} | ratios))
        return
    size = sum(math.prod(shape) for shape in SHAPES)
    print(
        f"{size:,} parameters, {options.words:,} of {N_WORDS:,} words in use, "
        f"{options.threads} threads, median of {options.repeats}"
    )
    for name, value in seconds.items():
        print(f"{name:22} {1000 * value:8.1f} ms {value / seconds['adamw']:8.2f} x AdamW")


def _in_turn(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def _parameters(generator: torch.Generator) -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(0.05 * torch.randn(shape, generator=generator)) for shape in SHAPES]
    for parameter in made:
        parameter.grad = 1e-4 * torch.randn(parameter.shape, generator=generator)
    return made


def _adamw() -> Callable[[], object]:
    parameters = _parameters(torch.Generator().manual_seed(0))
    return torch.optim.AdamW(parameters, lr=1e-4, fused=True).step


def _gated(native: NativeStep | None, *, structured: bool, n_words: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    live = _parameters(generator)
    base = [p.detach() - 1e-3 * torch.randn(p.shape, generator=generator) for p in live]
    words = torch.randperm(N_WORDS, generator=generator)[:n_words].sort().values
    groups = (
        GroupGates(len(live), 5.0, Stretch(), seed=1) if structured else NoGroupGates(len(live))
    )
    gated = GatedWeights(
        live,
        base,
        [(torch.zeros_like(p.data), torch.full_like(p.data, 1e-8)) for p in live],
        n_moment_steps=100,
        log_alpha=5.0,
        stretch=Stretch(),
        groups=groups,
        seed=1,
        kernels=native,
        used_rows={0: words.numpy()} if n_words < N_WORDS else {},
    )
    rates = AdamSettings(learning_rate=1e-4), AdamSettings(learning_rate=0.2)
    return lambda: gated.step(*rates, l0_coefficient=1e-7, product=False, grad_scale=1.0)


if __name__ == "__main__":
    main()
