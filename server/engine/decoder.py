"""The forward pass of a dense Llama-family decoder over one step's flattened tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from server.engine.attention import StepAttention
from server.engine.batch import Batch
from server.engine.cache import KVCache
from server.engine.lora import StepLora
from server.engine.spec import DecoderSpec
from server.engine.weights import Layer, Weights


class Decoder:
    """Tokens in, logits out. Stateless but for its weights; the cache is the caller's."""

    def __init__(self, spec: DecoderSpec, weights: Weights, *, context_length: int) -> None:
        self._spec = spec
        self._weights = weights
        self._cosines, self._sines = rope_table(spec, context_length, weights.embedding)

    @property
    def dtype(self) -> torch.dtype:
        return self._weights.embedding.dtype

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.device

    def forward(self, batch: Batch, cache: KVCache, lora: StepLora | None) -> torch.Tensor:
        """Logits of the sampled tokens, [R, vocab] fp32; writes the others' keys and values too.

        ``lora`` is ``None`` where no token of the batch has an adapter.
        """
        x = F.embedding(batch.tokens, self._weights.embedding)
        cosines = self._cosines[batch.positions].unsqueeze(1)
        sines = self._sines[batch.positions].unsqueeze(1)
        attention = StepAttention(batch, cache)
        for index, layer in enumerate(self._weights.layers):
            normed = self._norm(x, layer.input_norm)
            x = x + self._attention(index, layer, normed, (cosines, sines), attention, lora)
            x = x + self._mlp(index, layer, self._norm(x, layer.mlp_norm), lora)
        sampled = self._norm(x[batch.sampled], self._weights.norm)
        return self._weights.head(sampled).float()

    def _attention(
        self,
        index: int,
        layer: Layer,
        x: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attention: StepAttention,
        lora: StepLora | None,
    ) -> torch.Tensor:
        shape = self._spec.architecture
        qkv = layer.qkv(x)
        if lora is not None:
            lora.add(index, "qkv", x, qkv)
        split = qkv.view(-1, shape.heads + 2 * shape.kv_heads, shape.head_dim)
        qk, values = split.split([shape.heads + shape.kv_heads, shape.kv_heads], dim=1)
        if layer.qk_norm is not None:
            qk = F.rms_norm(qk, (shape.head_dim,), None, self._spec.norm_epsilon) * layer.qk_norm
        queries, keys = rotate(qk, *angles).split([shape.heads, shape.kv_heads], dim=1)
        attended = attention(index, queries, keys, values).flatten(1)
        out = layer.output(attended)
        if lora is not None:
            lora.add(index, "output", attended, out)
        return out

    def _mlp(
        self, index: int, layer: Layer, x: torch.Tensor, lora: StepLora | None
    ) -> torch.Tensor:
        gate_up = layer.gate_up(x)
        if lora is not None:
            lora.add(index, "gate_up", x, gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        wide = F.silu(gate) * up
        out = layer.down(wide)
        if lora is not None:
            lora.add(index, "down", wide, out)
        return out

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self._spec.norm_epsilon)


def rope_table(
    spec: DecoderSpec, context_length: int, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every position, [context_length, head_dim], as ``like`` in kind."""
    positions = torch.arange(context_length, dtype=torch.float)
    angles = torch.outer(positions, spec.inverse_frequencies).repeat(1, 2)
    cosines, sines = angles.cos() * spec.rope_scaling, angles.sin() * spec.rope_scaling
    return cosines.to(like), sines.to(like)


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of ``x`` [T, heads, head_dim] by angles [T, 1, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines
