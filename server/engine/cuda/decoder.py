"""The forward pass of a dense Llama-family decoder over one step's tiles of tokens."""

from __future__ import annotations

import torch

from server.engine.cache import KVCache
from server.engine.cuda.adapter import Layout
from server.engine.cuda.step import Kernels, Share, Step
from server.engine.decoder import rope_table
from server.engine.lora import GROUPS
from server.engine.spec import DecoderSpec
from server.engine.weights import Weights

MOST_PROJECTIONS = max(map(len, GROUPS.values()))


class TileDecoder:
    """Tokens in, logits out. Stateless but for its weights; the cache is the caller's.

    It never waits for the device, and does the same for every step of one size: so it can become
    a graph.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        weights: Weights,
        layout: Layout,
        kernels: Kernels,
        *,
        context_length: int,
    ) -> None:
        self._kernels = kernels
        self._spec = spec
        self._weights = weights
        self._layout = layout
        like = torch.empty(0, dtype=torch.float32, device=weights.embedding.device)
        self._angles = rope_table(spec, context_length, like)

    def hidden(
        self, step: Step, drawn: torch.Tensor, cache: KVCache, *, splits: int = 1
    ) -> torch.Tensor:
        """[T, hidden]: what the head reads of each token; writes keys and values of all of them.

        ``drawn``: [rows, 2] int32, what the step before drew. ``splits``: of attention.
        """
        kernels = self._kernels
        epsilon, heads = self._spec.norm_epsilon, self._spec.architecture.heads
        lora = _Lora(step, self._layout, kernels, self._weights.embedding.device)
        residual = kernels.embed(step, drawn, self._weights.embedding)
        x = kernels.add_norm(
            residual, None, self._weights.layers[0].input_norm, step, epsilon=epsilon
        )
        norms = [layer.input_norm for layer in self._weights.layers[1:]] + [self._weights.norm]
        for number, (layer, norm) in enumerate(zip(self._weights.layers, norms, strict=True)):
            kept = cache.keys[number], cache.values[number]
            qkv, share = layer.qkv(x), lora.share(number, "qkv", x)
            kernels.prepare_heads(
                qkv,
                kept,
                step,
                norm=layer.qk_norm,
                angles=self._angles,
                epsilon=epsilon,
                heads=heads,
                share=share,
            )
            attended = kernels.attend(qkv, kept, step, heads=heads, splits=splits)
            added, share = layer.output(attended), lora.share(number, "output", attended)
            x = kernels.add_norm(
                residual, added, layer.mlp_norm, step, epsilon=epsilon, share=share
            )
            gate_up, share = layer.gate_up(x), lora.share(number, "gate_up", x)
            wide = kernels.gate(gate_up, step, share=share)
            added, share = layer.down(wide), lora.share(number, "down", wide)
            x = kernels.add_norm(residual, added, norm, step, epsilon=epsilon, share=share)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[R, vocab] of rows of :meth:`hidden`."""
        return self._weights.head(hidden)


class _Lora:
    """The products with A of one step, each in the same memory as the one before."""

    def __init__(self, step: Step, layout: Layout, kernels: Kernels, device: torch.device) -> None:
        self._kernels = kernels
        self._step = step
        self._layout = layout
        widest = -(-step.max_rank // 16) * 16  # kernels are compiled anew for odd strides
        shape = step.count, MOST_PROJECTIONS * widest
        self._shrunk = torch.empty(shape, dtype=torch.float32, device=device)

    def share(self, layer: int, group: str, x: torch.Tensor) -> Share | None:
        """What the adapters add to a projection of ``x``; nothing where there are none."""
        if not self._step.max_rank:
            return None
        self._kernels.shrink(
            x,
            self._step,
            offset=self._layout.a(layer, group),
            projections=len(GROUPS[group]),
            out=self._shrunk,
        )
        return Share(self._shrunk, self._layout.b(layer, group))
