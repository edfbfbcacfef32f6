"""The base `bench-0.6b`: the shape of Qwen3-0.6B with random weights, made on this machine.

Speed does not depend on the values of weights, so benchmarks need no download. The values are
seeded, and scaled so that hidden states, logits and sampling behave as a trained model's do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from adapters.base import SINGLE, Architecture
from adapters.manifest import PROJECTIONS
from training.replacement import replacing
from training.stages import OnNotedProgress, unheard
from training.synthetic.tokenizer import random_tokenizer

if TYPE_CHECKING:
    import torch

EMBEDDING_DEVIATION = 0.02
LOGIT_DEVIATION = 4.0
PIECE = 1 << 22  # numbers that are drawn and written at a time
BF16_BYTES = 2

QWEN3_0_6B = Architecture(
    model_type="qwen3",
    hidden_size=1024,
    intermediate_size=3072,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    vocab_size=151_936,
    context_length=40_960,
)
QWEN3_FIRST_CONTROL_TOKEN = 151_643


@dataclass(frozen=True, slots=True)
class RandomTensor:
    """A tensor to draw: normal with ``deviation`` around ``mean``; constant where it is 0."""

    name: str
    shape: tuple[int, ...]
    deviation: float = 0.0
    mean: float = 0.0

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def make_random_base(
    directory: Path,
    shape: Architecture = QWEN3_0_6B,
    *,
    first_control_token: int = QWEN3_FIRST_CONTROL_TOKEN,
    seed: int = 0,
    on_progress: OnNotedProgress = unheard,
) -> Path:
    """Write a Qwen3 checkpoint of ``shape`` into ``directory``, which appears once it is whole.

    ``on_progress`` gets (millions of weights written, in all, a note). Equal arguments give equal
    bytes. Memory stays within that of one piece of :data:`PIECE` numbers.
    """
    with replacing(directory) as staged:
        tokenizer = random_tokenizer(
            shape.vocab_size, first_control_token, context_length=shape.context_length
        )
        tokenizer.save_pretrained(staged)
        for name, settings in _configs(shape, tokenizer).items():
            (staged / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        write_weights(staged / SINGLE, random_tensors(shape), seed, on_progress)
    return directory


def random_tensors(shape: Architecture) -> list[RandomTensor]:
    """The tensors of a Qwen3 with a tied head, in a checkpoint's order.

    Projections keep the deviation of what they are given, so the residual stream grows as the
    root of the depth and the embedding of the token itself has little part in it: with a tied
    head a model would else only repeat its input. The last norm gives logits of
    :data:`LOGIT_DEVIATION`.
    """
    hidden = shape.hidden_size
    table = RandomTensor(
        "model.embed_tokens.weight", (shape.vocab_size, hidden), EMBEDDING_DEVIATION
    )
    layers = [tensor for layer in range(shape.layers) for tensor in _layer(shape, layer)]
    scale = LOGIT_DEVIATION / (EMBEDDING_DEVIATION * hidden**0.5)
    return [table, *layers, RandomTensor("model.norm.weight", (hidden,), mean=scale)]


def _layer(shape: Architecture, layer: int) -> Iterator[RandomTensor]:
    stem = f"model.layers.{layer}"
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield RandomTensor(f"{stem}.{norm}.weight", (shape.hidden_size,), mean=1.0)
    for norm in ("q_norm", "k_norm"):
        yield RandomTensor(f"{stem}.self_attn.{norm}.weight", (shape.head_dim,), mean=1.0)
    for projection in PROJECTIONS:
        inputs, outputs = shape.projection_shape(projection)
        yield RandomTensor(
            f"{stem}.{block_of(projection)}.{projection}.weight", (outputs, inputs), inputs**-0.5
        )


def block_of(projection: str) -> str:
    """The part of a layer that ``projection`` belongs to."""
    return "self_attn" if projection in PROJECTIONS[:4] else "mlp"


def write_weights(
    path: Path, tensors: list[RandomTensor], seed: int, on_progress: OnNotedProgress
) -> None:
    """Draw ``tensors`` and write them in bf16 as a safetensors file, a piece at a time.

    The library writes only what is in memory as a whole; the format is a length of eight bytes, a
    JSON header and the bytes (https://github.com/huggingface/safetensors#format).
    """
    total, done = sum(tensor.count for tensor in tensors), 0
    with path.open("wb") as file:
        _write_header(file, tensors)
        for index, tensor in enumerate(tensors):
            for piece in _pieces(tensor, seed, index):
                file.write(piece.bfloat16().view(_int16()).numpy().data)
                done += piece.numel()
                on_progress(done // 10**6, total // 10**6, "million weights")


def _write_header(file: BinaryIO, tensors: list[RandomTensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        end = position + tensor.count * BF16_BYTES
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": tensor.shape,
            "data_offsets": (position, end),
        }
        position = end
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)  # aligned, as the library does it
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)


def _pieces(tensor: RandomTensor, seed: int, index: int) -> Iterator[torch.Tensor]:
    """The numbers of ``tensor`` in fp32; each has a generator of its own, so order is free."""
    import torch

    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    for begin in range(0, tensor.count, PIECE):
        size = min(PIECE, tensor.count - begin)
        if tensor.deviation:
            yield torch.randn(size, generator=generator).mul_(tensor.deviation).add_(tensor.mean)
        else:
            yield torch.full((size,), tensor.mean)


def _int16() -> torch.dtype:
    """A type that numpy knows, of the same size as bf16."""
    import torch

    return torch.int16


def _configs(shape: Architecture, tokenizer: Any) -> dict[str, dict[str, Any]]:
    """The JSON files of the checkpoint by name, as those of Qwen3-0.6B are."""
    ends = {
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context_length,
        "max_window_layers": shape.layers,
        "rope_theta": 1_000_000,
        "rope_scaling": None,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": EMBEDDING_DEVIATION,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        **ends,
    }
    generation = {
        **ends,
        "eos_token_id": [tokenizer.eos_token_id, tokenizer.pad_token_id],
        "pad_token_id": tokenizer.pad_token_id,
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }
    return {"config.json": config, "generation_config.json": generation}
