"""The types of adapter that can be used, and the settings that each may have.

Names are PEFT's own. An adapter may come from a stranger, so that everything is a closed list, for
scenarios and for files alike: a type, a setting or a value that is not here is refused. The bounds
keep what PEFT derives from a number (shared projections, positions, permutations) below a few
copies of the base; what it derives from the stored tensors is compared with them. Settings that
name a file, a module or code, regular expressions and mappings of them are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")]
Names = Annotated[tuple[Name, ...], Field(max_length=256)]
Targets = Literal["all-linear"] | Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)]
Layers = Annotated[tuple[Annotated[int, Field(strict=True, ge=0, le=10_000)], ...], Field()]
Flag = Annotated[bool, Field(strict=True)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Scale = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=1 << 32)]
Wavelet = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,5}[0-9.]{0,4}$")]
RankPattern = Annotated[dict[Name, list[Flag]], Field(max_length=4096)]


def _size(most: int, least: int = 1) -> Any:
    return Annotated[int, Field(strict=True, ge=least, le=most)]


Rank = _size(4096)
_T: Final[dict[str, Any]] = {"target_modules": Targets}
_TRANSPOSED: Final[dict[str, Any]] = {"fan_in_fan_out": Flag}
_TX: Final = _T | {"exclude_modules": Names}
_TL: Final = _T | {"layers_to_transform": Layers} | _TRANSPOSED
_TXL: Final = _TX | _TL


@dataclass(frozen=True, kw_only=True)
class AdapterType:
    """One type of adapter. Every mapping is from the name of a setting to what it may be.

    `answers` decide what an adapter answers: they are stored with it. `training` settings steer
    the training alone. `written` settings are results of the training, stored but never asked for.
    """

    answers: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    targets: Literal["projections", "norms", "none"] = "projections"
    """What is adapted where PEFT has no default for the model."""
    positions: str | None = None
    """The last part of the names of integer tensors that index a matrix of the base."""
    single: str | None = None
    """The end of the names of tensors that PEFT reads in fp32 alone."""
    builds_empty: bool = True
    """Whether PEFT can build it without memory for its parameters; if not, they are few."""


_CAYLEY: Final = {"use_cayley_neumann": Flag, "num_cayley_neumann_terms": _size(64)}

TYPES: Final[Mapping[str, AdapterType]] = MappingProxyType(
    {
        "adalora": AdapterType(
            answers={"init_r": _size(512), "lora_alpha": Positive, **_TXL},
            training={
                "target_r": Rank, "tinit": _size(10**9, 0), "tfinal": _size(10**9, 0),
                "deltaT": _size(10**9), "beta1": Share, "beta2": Share,
                "orth_reg_weight": Share, "lora_dropout": Share,
            },
            written={"total_step": _size(10**9), "rank_pattern": RankPattern},
            builds_empty=False,
        ),
        "beft": AdapterType(answers=_T),
        "boft": AdapterType(
            # No `boft_n_butterfly_factor`: PEFT ignores it where it cannot compile for a GPU.
            answers={
                "boft_block_size": _size(4096, 0), "boft_block_num": _size(4096, 0), **_TXL
            },
            training={"boft_dropout": Share},
        ),
        "c3a": AdapterType(
            answers={"block_size": _size(1 << 14), **_T, "layers_to_transform": Layers}
        ),
        "delora": AdapterType(
            answers={
                "r": Rank, "delora_lambda": Positive, **_TX, "layers_to_transform": Layers
            },
            training={"module_dropout": Share},
        ),
        "fourierft": AdapterType(
            answers={
                "n_frequency": _size(1 << 24), "scaling": Scale, "random_loc_seed": Seed, **_TXL
            },
            training={"init_weights": Flag},
        ),
        "hra": AdapterType(
            answers={"r": Rank, "apply_GS": Flag, **_TX, "layers_to_transform": Layers}
        ),
        "ia3": AdapterType(answers={"feedforward_modules": Names, **_TX, **_TRANSPOSED}),
        "ln_tuning": AdapterType(answers=_TX, targets="norms"),
        "loha": AdapterType(
            answers={"r": Rank, "alpha": Positive, **_TX, "layers_to_transform": Layers},
            training={"rank_dropout": Share, "module_dropout": Share},
        ),
        "lokr": AdapterType(
            answers={
                "r": Rank, "alpha": Positive, "decompose_both": Flag,
                "decompose_factor": _size(4096, -1), **_TX, "layers_to_transform": Layers,
            },
            training={"rank_dropout": Share, "module_dropout": Share},
        ),
        "lora": AdapterType(
            answers={
                "r": Rank, "lora_alpha": Positive, "use_rslora": Flag, "use_dora": Flag,
                "lora_bias": Flag, **_TXL,
            },
            training={"lora_dropout": Share, "init_lora_weights": Flag | Literal["gaussian"]},
        ),
        "miss": AdapterType(
            answers={"r": Rank, **_TX, "layers_to_transform": Layers},
            training={"miss_dropout": Share},
        ),
        "oft": AdapterType(
            answers={
                "r": _size(4096, 0), "oft_block_size": _size(4096, 0), "coft": Flag,
                "eps": Positive, "block_share": Flag, **_CAYLEY, **_TXL,
            },
            training={"module_dropout": Share},
        ),
        "prompt_tuning": AdapterType(
            answers={"num_virtual_tokens": _size(4096)},
            training={"prompt_tuning_init": Literal["RANDOM", "SAMPLE_VOCAB"]},
            written={
                "token_dim": _size(1 << 16), "num_attention_heads": _size(1 << 16),
                "num_layers": _size(1 << 16),
            },
            targets="none",
            builds_empty=False,
        ),
        "psoft": AdapterType(
            answers={
                "r": Rank, "psoft_alpha": Positive, "psoft_orth": Flag, "psoft_mag_a": Flag,
                "psoft_mag_b": Flag, "ab_svd_init": Literal["psoft_init", "pissa_init"],
                **_CAYLEY, **_TXL,
            },
            training={"psoft_dropout": Share},
        ),
        "randlora": AdapterType(
            answers={
                "r": Rank, "randlora_alpha": Positive, "projection_prng_key": Seed,
                "save_projection": Flag, "sparse": Flag, "very_sparse": Flag, **_TL,
            },
            training={"randlora_dropout": Share},
        ),
        "road": AdapterType(
            answers={
                "variant": Literal["road_1", "road_2", "road_4"],
                "group_size": _size(1 << 14, 2), **_T,
            }
        ),
        "shira": AdapterType(
            answers={"r": Rank, **_T, **_TRANSPOSED},
            training={"random_seed": Seed},
            positions="shira_indices",
        ),
        "tinylora": AdapterType(
            answers={
                "r": _size(64), "u": _size(512), "weight_tying": Share, "projection_seed": Seed,
                "save_projection": Flag, **_TL,
            },
            training={"tinylora_dropout": Share, "init_v_bound": Positive},
        ),
        "unilora": AdapterType(
            # No `save_indices`: they are regenerated from the seed.
            answers={
                "r": _size(64), "theta_d_length": _size(1 << 20), "proj_seed": Seed, **_TL
            },
            training={"unilora_dropout": Share, "init_theta_d_bound": Positive},
        ),
        "vblora": AdapterType(
            answers={
                "r": _size(256), "num_vectors": _size((1 << 15) - 1),
                "vector_length": _size(1 << 14), "topk": _size(16),
                "save_only_topk_weights": Flag, **_TXL,
            },
            training={
                "vblora_dropout": Share, "init_vector_bank_bound": Positive,
                "init_logits_std": Positive,
            },
            single="_topk_weights",
        ),
        "vera": AdapterType(
            answers={
                "r": Rank, "projection_prng_key": Seed, "save_projection": Flag, **_TL
            },
            training={"vera_dropout": Share, "d_initial": Scale},
        ),
        "waveft": AdapterType(
            answers={
                "n_frequency": _size(1 << 24), "scaling": Scale, "random_loc_seed": Seed,
                "wavelet_family": Wavelet, "use_idwt": Flag, "proportional_parameters": Flag,
                **_TXL,
            },
            training={"init_weights": Flag},
        ),
    }
)  # fmt: skip


def scenario_settings(name: str) -> type[BaseModel]:
    """Return the class that validates the settings of a type in a scenario."""
    kind = TYPES[name]
    return _model(name, {**kind.answers, **kind.training})


def stored_settings(name: str) -> type[BaseModel]:
    """Return the class that validates the settings of a type in a file."""
    kind = TYPES[name]
    common = {
        "peft_type": Literal[name.upper()],
        "task_type": Literal["SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM"],
        "peft_version": Annotated[str, StringConstraints(max_length=64)],
        "modules_to_save": Annotated[tuple[Name, ...], Field(max_length=16)],
    }
    return _model(name, {**common, **kind.answers, **kind.written})


def _model(name: str, settings: Mapping[str, Any]) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    fields: dict[str, Any] = {key: (kind, None) for key, kind in settings.items()}
    return create_model(name, __config__=config, **fields)
