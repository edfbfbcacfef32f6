"""The tensors of a base, read by name from safetensors and fused for fewer, larger products.

Whatever multiplies may stand in the place of a :class:`Linear`: quantised weights do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from safetensors import safe_open

from adapters.errors import BaseInvalid
from server.engine.quantised import Int8Linear, Nf4Linear
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


AnyLinear = Linear | Int8Linear | Nf4Linear


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One decoder layer. ``qkv`` gives queries, keys and values side by side, ``gate_up`` likewise.

    ``qk_norm``: [heads + kv_heads, head_dim], the norm weight of every query and key head.
    """

    input_norm: torch.Tensor
    qkv: AnyLinear
    qk_norm: torch.Tensor | None
    output: AnyLinear
    mlp_norm: torch.Tensor
    gate_up: AnyLinear
    down: AnyLinear


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A whole decoder. ``embedding``: [vocab, hidden]; the head is the same tensor where tied."""

    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: AnyLinear


def load_weights(
    path: Path,
    spec: DecoderSpec,
    *,
    dtype: torch.dtype,
    device: torch.device,
    weight_format: str = "",
) -> Weights:
    """Read the checkpoint in ``path``; nothing of it stays memory-mapped.

    ``weight_format`` int8 or nf4 quantises the linear layers; the head of an nf4 model is
    int8. Anything else leaves them in ``dtype``.

    Raises:
        BaseInvalid: a tensor is missing, has another shape, or is one we would have to ignore.
    """
    with Checkpoint(path, dtype, device) as checkpoint:
        weights = _read(checkpoint, spec, weight_format)
        checkpoint.refuse_unread(spec)
    return weights


class Checkpoint:
    """The tensors of all ``*.safetensors`` in a directory, one name space; a context manager.

    They come out in ``dtype``, or as they are stored where that is ``None``.
    """

    def __init__(self, path: Path, dtype: torch.dtype | None, device: torch.device) -> None:
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

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """A copy of one tensor in this checkpoint's dtype and on its device.

        Raises:
            BaseInvalid: it is missing or has another shape.
        """
        if name not in self._files:
            raise BaseInvalid(f"{self._path} lacks the tensor {name}.")
        found = self._files[name].get_tensor(name)
        if tuple(found.shape) != shape:
            raise BaseInvalid(f"{self._path}: {name} is {tuple(found.shape)}, not {shape}.")
        self._unread.discard(name)
        return found.to(device=self._device, dtype=self._dtype or found.dtype, copy=True)

    def refuse_unread(self, spec: DecoderSpec) -> None:
        """Raise ``BaseInvalid`` where a tensor was not asked for: it would be ignored."""
        unread = self._unread - ({HEAD} if spec.is_head_tied else set())
        if unread:
            raise BaseInvalid(
                f"{self._path} holds tensors this engine does not know: {_few(unread)}."
            )


def _read(checkpoint: Checkpoint, spec: DecoderSpec, weight_format: str) -> Weights:
    embedding, head = read_ends(checkpoint, spec)
    layers = range(spec.architecture.layers)
    return Weights(
        embedding=embedding,
        layers=tuple(_layer(checkpoint, spec, index, weight_format) for index in layers),
        norm=read_norm(checkpoint, "model.norm", spec),
        head=_in_format(head, None, "int8" if weight_format == "nf4" else weight_format),
    )


def _in_format(weight: torch.Tensor, bias: torch.Tensor | None, weight_format: str) -> AnyLinear:
    if weight_format == "int8":
        return Int8Linear.of(weight, bias)
    return Nf4Linear.of(weight, bias) if weight_format == "nf4" else Linear(weight, bias)


def _layer(checkpoint: Checkpoint, spec: DecoderSpec, index: int, weight_format: str) -> Layer:
    def fused(names: tuple[str, ...]) -> AnyLinear:
        parts = [read_projection(checkpoint, spec, index, name) for name in names]
        return _in_format(*joined(parts), weight_format)

    stem = f"model.layers.{index}"
    return Layer(
        input_norm=read_norm(checkpoint, f"{stem}.input_layernorm", spec),
        qkv=fused(ATTENTION),
        qk_norm=read_qk_norm(checkpoint, spec, index),
        output=fused(("o_proj",)),
        mlp_norm=read_norm(checkpoint, f"{stem}.post_attention_layernorm", spec),
        gate_up=fused(GATED),
        down=fused(("down_proj",)),
    )


def read_ends(checkpoint: Checkpoint, spec: DecoderSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding and the head, [vocab, hidden] both; one tensor where they are tied."""
    shape = spec.architecture.vocab_size, spec.architecture.hidden_size
    embedding = checkpoint.tensor("model.embed_tokens.weight", *shape)
    return embedding, embedding if spec.is_head_tied else checkpoint.tensor(HEAD, *shape)


def read_norm(checkpoint: Checkpoint, stem: str, spec: DecoderSpec) -> torch.Tensor:
    """The weight of a norm over the hidden size."""
    return checkpoint.tensor(f"{stem}.weight", spec.architecture.hidden_size)


def read_qk_norm(checkpoint: Checkpoint, spec: DecoderSpec, index: int) -> torch.Tensor | None:
    """[heads + kv_heads, head_dim]; ``None`` in families without one."""
    if not spec.has_qk_norm:
        return None
    shape, stem = spec.architecture, f"model.layers.{index}.self_attn"
    query = checkpoint.tensor(f"{stem}.q_norm.weight", shape.head_dim)
    key = checkpoint.tensor(f"{stem}.k_norm.weight", shape.head_dim)
    return torch.cat([query.expand(shape.heads, -1), key.expand(shape.kv_heads, -1)])


def read_projection(
    checkpoint: Checkpoint, spec: DecoderSpec, index: int, name: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [outputs, inputs] and bias of one of the seven projections of a layer."""
    block, has_bias = "self_attn", spec.has_qkv_bias
    if name == "o_proj":
        has_bias = spec.has_output_bias
    elif name not in ATTENTION:
        block, has_bias = "mlp", spec.has_mlp_bias
    stem = f"model.layers.{index}.{block}.{name}"
    inputs, outputs = spec.architecture.projection_shape(name)
    weight = checkpoint.tensor(f"{stem}.weight", outputs, inputs)
    return weight, checkpoint.tensor(f"{stem}.bias", outputs) if has_bias else None


def joined(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights and biases of projections that share their input, stacked along their outputs."""
    if len(parts) == 1:
        return parts[0]
    biases = [bias for _, bias in parts if bias is not None]
    return torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None


def _few(names: set[str]) -> str:
    shown = sorted(names)[:5]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
