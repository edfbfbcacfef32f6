"""The tensors of a base, read by name from safetensors and fused for fewer, larger products.

A :class:`Linear` is the seam for other weight formats: whatever multiplies may stand in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from safetensors import safe_open

from adapters.errors import BaseInvalid
from server.engine.spec import DecoderSpec

ATTENTION = ("q_proj", "k_proj", "v_proj")
GATED = ("gate_proj", "up_proj")
# Written by old exporters; computed here.
IGNORED_SUFFIXES = ("rotary_emb.inv_freq",)
HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ weight.T + bias``. ``weight``: [outputs, inputs]."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One decoder layer. ``qkv`` gives queries, keys and values side by side, ``gate_up`` likewise.

    ``qk_norm``: [heads + kv_heads, head_dim], the norm weight of every query and key head.
    """

    input_norm: torch.Tensor
    qkv: Linear
    qk_norm: torch.Tensor | None
    output: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A whole decoder. ``embedding``: [vocab, hidden]; the head is the same tensor where tied."""

    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: Linear


def load_weights(
    path: Path, spec: DecoderSpec, *, dtype: torch.dtype, device: torch.device
) -> Weights:
    """Read the checkpoint in ``path``; nothing of it stays memory-mapped.

    Raises:
        BaseInvalid: a tensor is missing, has another shape, or is one we would have to ignore.
    """
    with Checkpoint(path, dtype, device) as checkpoint:
        weights = _read(checkpoint, spec)
        unread = checkpoint.unread - ({HEAD} if spec.is_head_tied else set())
    if unread:
        raise BaseInvalid(f"{path} holds tensors this engine does not know: {_few(unread)}.")
    return weights


class Checkpoint:
    """The tensors of all ``*.safetensors`` in a directory, one name space; a context manager."""

    def __init__(self, path: Path, dtype: torch.dtype, device: torch.device) -> None:
        self._path = path
        self._dtype = dtype
        self._device = device
        self._stack = ExitStack()
        self._files: dict[str, safe_open] = {}
        self._unread: set[str] = set()

    def __enter__(self) -> Self:
        for file in sorted(self._path.glob("*.safetensors")):
            opened = self._stack.enter_context(safe_open(file, framework="pt"))
            self._files |= dict.fromkeys(opened.keys(), opened)
        self._unread = {name for name in self._files if not name.endswith(IGNORED_SUFFIXES)}
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def unread(self) -> set[str]:
        return self._unread

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """A copy of one tensor in this checkpoint's dtype and on its device."""
        if name not in self._files:
            raise BaseInvalid(f"{self._path} lacks the tensor {name}.")
        found = self._files[name].get_tensor(name)
        if tuple(found.shape) != shape:
            raise BaseInvalid(f"{self._path}: {name} is {tuple(found.shape)}, not {shape}.")
        self._unread.discard(name)
        return found.to(device=self._device, dtype=self._dtype, copy=True)


def _read(checkpoint: Checkpoint, spec: DecoderSpec) -> Weights:
    shape = spec.architecture
    embedding = checkpoint.tensor("model.embed_tokens.weight", shape.vocab_size, shape.hidden_size)
    head = embedding
    if not spec.is_head_tied:
        head = checkpoint.tensor(HEAD, shape.vocab_size, shape.hidden_size)
    return Weights(
        embedding=embedding,
        layers=tuple(_layers(checkpoint, spec)),
        norm=checkpoint.tensor("model.norm.weight", shape.hidden_size),
        head=Linear(head),
    )


def _layers(checkpoint: Checkpoint, spec: DecoderSpec) -> Iterator[Layer]:
    shape = spec.architecture
    for index in range(shape.layers):
        stem = f"model.layers.{index}"
        attention, mlp = f"{stem}.self_attn", f"{stem}.mlp"
        yield Layer(
            input_norm=checkpoint.tensor(f"{stem}.input_layernorm.weight", shape.hidden_size),
            qkv=_fused(checkpoint, spec, attention, ATTENTION, has_bias=spec.has_qkv_bias),
            qk_norm=_qk_norm(checkpoint, spec, attention) if spec.has_qk_norm else None,
            output=_fused(checkpoint, spec, attention, ("o_proj",), has_bias=spec.has_output_bias),
            mlp_norm=checkpoint.tensor(
                f"{stem}.post_attention_layernorm.weight", shape.hidden_size
            ),
            gate_up=_fused(checkpoint, spec, mlp, GATED, has_bias=spec.has_mlp_bias),
            down=_fused(checkpoint, spec, mlp, ("down_proj",), has_bias=spec.has_mlp_bias),
        )


def _qk_norm(checkpoint: Checkpoint, spec: DecoderSpec, stem: str) -> torch.Tensor:
    shape = spec.architecture
    query = checkpoint.tensor(f"{stem}.q_norm.weight", shape.head_dim)
    key = checkpoint.tensor(f"{stem}.k_norm.weight", shape.head_dim)
    return torch.cat([query.expand(shape.heads, -1), key.expand(shape.kv_heads, -1)])


def _fused(
    checkpoint: Checkpoint, spec: DecoderSpec, stem: str, names: tuple[str, ...], *, has_bias: bool
) -> Linear:
    """The projections ``names``, which share their input, stacked along their outputs."""
    weights, biases = [], []
    for name in names:
        inputs, outputs = spec.architecture.projection_shape(name)
        weights.append(checkpoint.tensor(f"{stem}.{name}.weight", outputs, inputs))
        if has_bias:
            biases.append(checkpoint.tensor(f"{stem}.{name}.bias", outputs))
    if len(names) == 1:
        return Linear(weights[0], biases[0] if biases else None)
    return Linear(torch.cat(weights), torch.cat(biases) if biases else None)


def _few(names: set[str]) -> str:
    shown = sorted(names)[:5]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
