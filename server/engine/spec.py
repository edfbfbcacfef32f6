"""What a base's ``config.json`` asks of the decoder, with everything we cannot do refused by name.

Transformers reads the file, so old and new spellings (``rope_theta``, ``rope_parameters``) work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.base import Architecture, Base
from adapters.errors import BaseInvalid

if TYPE_CHECKING:
    import torch

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
ACTIVATIONS = ("silu", "swish")


@dataclass(frozen=True, kw_only=True)
class DecoderSpec:
    """A dense Llama-family decoder.

    ``inverse_frequencies``: [head_dim / 2], fp32, in radians a position. ``rope_scaling``
    multiplies the sines and cosines (yarn's attention factor, else 1).
    """

    architecture: Architecture
    norm_epsilon: float
    has_qk_norm: bool
    has_qkv_bias: bool
    has_output_bias: bool
    has_mlp_bias: bool
    is_head_tied: bool
    inverse_frequencies: torch.Tensor
    rope_scaling: float


def read_spec(base: Base) -> DecoderSpec:
    """The decoder that ``base`` needs.

    Raises:
        BaseInvalid: it needs something this engine does not do; the text names the field.
    """
    from transformers import AutoConfig

    _refuse_quantised(base)
    config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    _refuse_unsupported(base, config)
    frequencies, scaling = _rope(base, config)
    family = base.architecture.model_type
    has_attention_bias = bool(getattr(config, "attention_bias", False))
    return DecoderSpec(
        architecture=base.architecture,
        norm_epsilon=float(config.rms_norm_eps),
        has_qk_norm=family == "qwen3",
        has_qkv_bias=family == "qwen2" or has_attention_bias,
        has_output_bias=family != "qwen2" and has_attention_bias,
        has_mlp_bias=bool(getattr(config, "mlp_bias", False)),
        is_head_tied=bool(config.tie_word_embeddings),
        inverse_frequencies=frequencies,
        rope_scaling=scaling,
    )


def _refuse_quantised(base: Base) -> None:
    raw = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in raw:
        raise BaseInvalid(
            f"{base.path / 'config.json'}: quantization_config: the checkpoint is already "
            "quantised; use the original one in bf16, fp16 or fp32."
        )


def _refuse_unsupported(base: Base, config: Any) -> None:
    where = base.path / "config.json"
    if config.hidden_act not in ACTIVATIONS:
        raise BaseInvalid(f"{where}: hidden_act {config.hidden_act!r}; supported is: silu.")
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        listed = ", ".join(sorted(kinds))
        raise BaseInvalid(f"{where}: layer_types {listed}; supported is: full_attention.")
    shape = base.architecture
    if shape.heads % shape.kv_heads:
        raise BaseInvalid(f"{where}: {shape.heads} heads do not divide by {shape.kv_heads}.")


def _rope(base: Base, config: Any) -> tuple[torch.Tensor, float]:
    """Inverse frequencies and the scaling of sines and cosines, as transformers computes them."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    where = base.path / "config.json"
    parameters = config.rope_parameters
    kind = parameters.get("rope_type", "default")
    if kind not in ROPE_TYPES:
        raise BaseInvalid(f"{where}: rope type {kind!r}; supported are: {', '.join(ROPE_TYPES)}.")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise BaseInvalid(f"{where}: partial_rotary_factor is not supported.")
    if kind != "default":
        frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
        return frequencies.float(), float(scaling)
    dimension = base.architecture.head_dim
    exponents = torch.arange(0, dimension, 2, dtype=torch.float) / dimension
    return 1.0 / (parameters["rope_theta"] ** exponents), 1.0
