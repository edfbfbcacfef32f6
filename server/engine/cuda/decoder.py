"""The forward pass of a dense Llama-family decoder over one step's tiles of tokens."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Self

import torch

from server.engine.cache import KVCache
from server.engine.cuda.adapter import Layout
from server.engine.cuda.step import Heads, Kernels, Share, Split, Step
from server.engine.decoder import rope_table
from server.engine.lora import GROUPS
from server.engine.spec import DecoderSpec
from server.engine.weights import AnyLinear, Linear, Weights

MOST_PROJECTIONS = max(map(len, GROUPS.values()))
# Whose outputs are added to the residual stream.
SUMMED = ("output", "down")


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
        angles = rope_table(spec, context_length, like)
        self._heads = [
            Heads(
                count=spec.architecture.heads,
                norm=layer.qk_norm,
                epsilon=spec.norm_epsilon,
                angles=angles,
            )
            for layer in weights.layers
        ]

    def of_one_layer(self) -> Self:
        """The same with its first layer alone, which launches every kernel that others do."""
        shallow = copy(self)
        weights = replace(self._weights, layers=self._weights.layers[:1])
        shallow._weights = weights  # noqa: SLF001 - of its own kind
        return shallow

    def hidden(
        self, step: Step, drawn: torch.Tensor, cache: KVCache, *, split: Split | None = None
    ) -> torch.Tensor:
        """[T, hidden]: what the head reads of each token; writes keys and values of all of them.

        ``drawn``: [rows, 2] int32, what the step before drew. ``split``: of attention.
        """
        kernels = self._kernels
        epsilon = self._spec.norm_epsilon
        linears = _Linears(step, self._layout, kernels, self._weights.embedding.device)
        residual = kernels.embed(step, drawn, self._weights.embedding)
        x = kernels.add_norm(
            residual, None, self._weights.layers[0].input_norm, step, epsilon=epsilon
        )
        norms = [layer.input_norm for layer in self._weights.layers[1:]] + [self._weights.norm]
        for number, (layer, norm) in enumerate(zip(self._weights.layers, norms, strict=True)):
            kept = cache.keys[number], cache.values[number]
            qkv, share = linears.project(layer.qkv, x, number, "qkv")
            attended = kernels.attend(
                qkv,
                kept,
                step,
                heads=self._heads[number],
                share=share,
                split=split,
            )
            added, share = linears.project(layer.output, attended, number, "output")
            x = kernels.add_norm(
                residual, added, layer.mlp_norm, step, epsilon=epsilon, share=share
            )
            gate_up, share = linears.project(layer.gate_up, x, number, "gate_up")
            wide = kernels.gate(gate_up, step, share=share)
            added, share = linears.project(layer.down, wide, number, "down")
            x = kernels.add_norm(residual, added, norm, step, epsilon=epsilon, share=share)
        return x

    def logits(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """[R, vocab] fp32 of rows of :meth:`hidden`, in ``out`` if there is one.

        On a GPU they are never rounded to the type of the weights, nor copied from it.
        """
        head = self._weights.head
        if out is None:
            shape = hidden.shape[0], self._spec.architecture.vocab_size
            out = torch.empty(shape, dtype=torch.float32, device=hidden.device)
        is_narrow = hidden.dtype != torch.float32
        if hidden.is_cuda and is_narrow and isinstance(head, Linear) and head.bias is None:
            return torch.mm(hidden, head.weight.t(), out_dtype=torch.float32, out=out)
        return out.copy_(head(hidden))


class _Linears:
    """The linear layers of one step, and the products with A, each in the memory of the last."""

    def __init__(self, step: Step, layout: Layout, kernels: Kernels, device: torch.device) -> None:
        self._kernels = kernels
        self._step = step
        self._layout = layout
        self._shrunk: torch.Tensor | None = None
        if step.max_rank:
            widest = -(-step.max_rank // 16) * 16  # kernels are compiled anew for odd strides
            shape = step.count, MOST_PROJECTIONS * widest
            self._shrunk = torch.empty(shape, dtype=torch.float32, device=device)

    def project(
        self, linear: AnyLinear, x: torch.Tensor, layer: int, group: str
    ) -> tuple[torch.Tensor, Share | None]:
        """What a linear layer makes of ``x``, and what the adapters add to that, if there are any.

        ``layer`` and ``group`` say which it is. Those of :data:`SUMMED` may come in pieces,
        [pieces, T, outputs].
        """
        step, out = self._step, self._shrunk
        offset, projections = self._layout.a(layer, group), len(GROUPS[group])
        if step.tile == 1 and isinstance(linear, Linear):
            y = self._kernels.project(
                x,
                linear.weight,
                linear.bias,
                step,
                offset=offset,
                projections=projections,
                out=out,
                in_pieces=group in SUMMED,
            )
        else:
            y = linear(x)
            if out is not None:
                self._kernels.shrink(x, step, offset=offset, projections=projections, out=out)
        return y, None if out is None else Share(out, self._layout.b(layer, group))
