"""Tiny real models for tests: a base in Qwen3's, Qwen2's or Llama's layout, and random adapters.

Weights are random but seeded, the tokenizer is byte-level, the chat template is the project's own.
They go through the same loading code as any other checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from adapters.base import read_architecture
from adapters.manifest import PROJECTIONS

CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Added to Qwen3's tokenizer, but not special there.
MARKS = (
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>", "<|fim_pad|>"),
)
TEMPLATE = Path(__file__).parent.parent / "training" / "pocket" / "chatml.jinja"

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
}


def byte_tokenizer(marks: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """256 bytes and the ChatML control tokens, no merges; then ``marks``, such as :data:`MARKS`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet + CONTROL_TOKENS)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL_TOKENS)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def tiny_base(
    path: Path,
    family: str = "qwen3",
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **shape: Any,
) -> Path:
    """Write a random base of ``family`` (qwen3, qwen2, llama) into ``path`` and return it."""
    tokenizer = tokenizer or byte_tokenizer()
    dimensions = {**SHAPE, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    dimensions |= {"bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(seed)
    if family == "qwen3":
        model = Qwen3ForCausalLM(
            Qwen3Config(**dimensions | {"head_dim": 32, "tie_word_embeddings": True} | shape)
        )
    elif family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**dimensions | {"tie_word_embeddings": True} | shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**dimensions | {"tie_word_embeddings": False} | shape))
    with torch.no_grad():  # larger than the default 0.02, so that greedy paths differ
        for name, tensor in model.named_parameters():
            if tensor.dim() > 1:
                tensor.normal_(0.0, 0.6 if "embed" in name else 0.15)
            elif "bias" in name:
                tensor.normal_(0.0, 0.3)
            else:
                tensor.uniform_(0.7, 1.3)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def random_adapter(
    path: Path,
    base: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: float = 8.0,
    targets: tuple[str, ...] = PROJECTIONS,
    base_name: str | None = None,
    std: float = 0.2,
    **config: Any,
) -> Path:
    """Write a PEFT LoRA directory for ``base`` with random, non-zero A and B."""
    architecture = read_architecture(base)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(architecture.layers):
        for target in targets:
            inputs, outputs = architecture.projection_shape(target)
            block = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            stem = f"base_model.model.model.layers.{layer}.{block}.{target}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * std
            tensors[f"{stem}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * std
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name or str(base),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(targets),
        "inference_mode": True,
        **config,
    }
    (path / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path
