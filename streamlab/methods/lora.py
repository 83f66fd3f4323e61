"""LoRA (Hu et al., 2022) by the PEFT library, kept as the file that PEFT writes."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn.utils import clip_grad_norm_

from streamlab.config import Settings
from streamlab.errors import TrainingError, UsageError
from streamlab.methods.api import Adapter, Artifact, Trained, TrainingJob
from streamlab.methods.early_stopping import Best
from streamlab.methods.training import Loop, TakeStep, adam, ramp, seeded_dropout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILE = "adapter_model.safetensors"  # PEFT's own names
CONFIG_FILE = "adapter_config.json"


class Lora(Settings):
    """Settings of LoRA: rank, scale and which layers, as PEFT calls them."""

    artifact: ClassVar[Artifact] = "adapter"

    name: Literal["lora"] = "lora"
    r: PositiveInt = 8
    lora_alpha: PositiveInt = 16
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # auto: those PEFT takes for the kind of model, the attention's queries and values for BERT
    target_modules: Literal["auto"] | tuple[str, ...] = "auto"
    rate: PositiveFloat = 1e-3

    def train(self, job: TrainingJob) -> Trained:
        """Train an adapter and the head; returns PEFT's file.

        Raises UsageError where PEFT is missing, TrainingError where it knows no layer to adapt.
        """
        n_steps = job.training.n_steps(job.n_batches)
        loop = Loop(job, n_steps)
        with seeded_dropout(job.seed, loop.device):
            adapted = self._adapt(job)
            adapted.train()
            take_step = self._stepping(adapted, job)
            best = Best(p for p in adapted.parameters() if p.requires_grad)
            loop.run("lora", ramp(n_steps, job.training.warmup_share), take_step, best=best)
            adapted.eval()
        return Trained(
            tensors=None,
            backbone=None,
            head={},
            n_steps=loop.n_taken,
            adapter=_saved(adapted),
        )

    def _adapt(self, job: TrainingJob) -> nn.Module:
        """Put adapters into `job.model` in place, and return PEFT's model around it."""
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise UsageError(
                "The method `lora` needs the PEFT library, which is not installed. Install it "
                'with `pip install "streamlab[lora]"`, or take `lora` out of the scenario.'
            ) from error
        config = LoraConfig(
            task_type="SEQ_CLS",  # which trains the head, and saves it with the adapter
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=None if self.target_modules == "auto" else list(self.target_modules),
        )
        try:
            with _quiet():
                adapted: nn.Module = get_peft_model(job.model, config)
        except ValueError as error:
            raise TrainingError(
                f"PEFT cannot put LoRA into this base: {error} Name layers of it as "
                "`target_modules`."
            ) from error
        return adapted

    def _stepping(self, adapted: nn.Module, job: TrainingJob) -> TakeStep:
        trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
        adapters = [p for name, p in trained.items() if ".lora_" in name]
        head = [p for name, p in trained.items() if ".lora_" not in name]
        optimizer, set_share = adam(
            [(adapters, self.rate), (head, job.training.head_learning_rate)]
        )

        def take_step(share: float) -> None:
            clip_grad_norm_(trained.values(), job.training.clip_norm)
            set_share(share)
            optimizer.step()

        return take_step


def _saved(adapted: Any) -> Adapter:
    with tempfile.TemporaryDirectory(prefix="streamlab-lora-") as folder:
        adapted.save_pretrained(folder)
        config = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
        # Where the base came from differs from machine to machine, and is no part of the adapter.
        config["base_model_name_or_path"] = None
        return Adapter((Path(folder) / WEIGHTS_FILE).read_bytes(), config)


@contextmanager
def adapted(model: PreTrainedModel, adapter: Adapter) -> Iterator[Any]:
    """Load PEFT's files onto a model, as PEFT does; the model stays wrapped."""
    from peft import PeftModel

    with tempfile.TemporaryDirectory(prefix="streamlab-lora-") as folder:
        (Path(folder) / WEIGHTS_FILE).write_bytes(adapter.weights)
        (Path(folder) / CONFIG_FILE).write_text(json.dumps(adapter.config), encoding="utf-8")
        with _quiet():
            wrapped = PeftModel.from_pretrained(model, folder)
    yield wrapped.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what PEFT makes transformers say of names that PEFT has yet to follow."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        yield
