"""What each kernel computes, as a formula over CPU tensors: slow, obvious, and without Triton.

Kernels are compared with it, and on machines without a GPU whole engines run with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from server.engine.cuda.step import DRAWN, SKIPPED, Heads, Rows, Share, Split, Step
from server.engine.decoder import rotate
from server.engine.draw import Draw
from server.engine.sampling import sample
from server.engine.types import SamplingParams


def tiles_of(step: Step) -> Iterator[tuple[int, slice]]:
    """Every tile, and where its tokens are."""
    for tile in range(step.tiles):
        start, count = (tile, 1) if step.tile == 1 else (step.starts[tile], step.counts[tile])
        yield tile, slice(int(start), int(start) + int(count))


def elements(step: Step, tile: int, offset: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """``count`` elements of a tile's adapter, from ``offset`` for each rank on."""
    begin = int(step.addresses[tile]) + int(step.ranks[tile]) * offset * dtype.itemsize
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(begin)
    return torch.frombuffer(memory, dtype=dtype).float()


def added(step: Step, share: Share | None, widths: list[int], dtype: torch.dtype) -> torch.Tensor:
    """[T, all widths]: what the adapters add to projections of these widths, side by side."""
    out = torch.zeros(step.count, sum(widths))
    for tile, tokens in tiles_of(step) if share else ():
        rank = int(step.ranks[tile])
        if rank:
            b = elements(step, tile, share.offset, rank * sum(widths), dtype).view(rank, -1)
            shrunk = share.shrunk[tokens, : rank * len(widths)].split(rank, dim=1)
            parts = zip(shrunk, b.split(widths, dim=1), strict=True)
            out[tokens] = torch.cat([inner @ outer for inner, outer in parts], dim=1)
    return out


class Formulas:
    """See :class:`server.engine.cuda.step.Kernels`."""

    def precompile(self, play: Callable[[], None]) -> None:
        """There is nothing to compile."""

    def embed(self, step: Step, drawn: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        tokens = step.tokens.long()
        earlier = drawn[(-1 - tokens).clamp(min=0), 0].long()
        return embedding[torch.where(tokens < 0, earlier, tokens)]

    def add_norm(
        self,
        residual: torch.Tensor,
        added_: torch.Tensor | None,
        weight: torch.Tensor,
        step: Step,
        *,
        epsilon: float,
        share: Share | None = None,
    ) -> torch.Tensor:
        width = residual.shape[1]
        if added_ is not None:
            more = added(step, share, [width], residual.dtype)
            whole = added_.float().reshape(-1, step.count, width).sum(dim=0)
            residual.copy_(residual.float() + whole + more)
        normed = F.rms_norm(residual.float(), (width,), weight.float(), epsilon)
        return normed.to(residual.dtype)

    def attend(
        self,
        qkv: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        step: Step,
        *,
        heads: Heads,
        share: Share | None = None,
        split: Split | None = None,
    ) -> torch.Tensor:
        keys, values = cache
        _, kv_heads, block, head_dim = keys.shape
        counts = [heads.count, kv_heads, kv_heads]
        more = added(step, share, [count * head_dim for count in counts], qkv.dtype)
        whole = (qkv.float() + more).view(step.count, -1, head_dim)
        qk, v = whole.split([heads.count + kv_heads, kv_heads], dim=1)
        if heads.norm is not None:
            qk = F.rms_norm(qk, (head_dim,), None, heads.epsilon) * heads.norm.float()
        there = step.positions >= 0
        at = step.positions.clamp(min=0).long()
        turned = rotate(qk, *(each[at].unsqueeze(1) for each in heads.angles)).to(qkv.dtype)
        blocks, offsets = step.places[there].long() // block, step.places[there].long() % block
        keys[blocks, :, offsets] = turned[there, heads.count :]
        values[blocks, :, offsets] = v[there].to(qkv.dtype)
        return _found(turned[:, : heads.count], cache, step)

    def gate(
        self, gate_up: torch.Tensor, step: Step, *, share: Share | None = None
    ) -> torch.Tensor:
        width = gate_up.shape[1] // 2
        whole = gate_up.float() + added(step, share, [width, width], gate_up.dtype)
        left, right = whole.chunk(2, dim=1)
        return (F.silu(left) * right).to(gate_up.dtype)

    def shrink(
        self,
        x: torch.Tensor,
        step: Step,
        *,
        offset: int,
        projections: int,
        out: torch.Tensor,
    ) -> None:
        for tile, tokens in tiles_of(step):
            rows = int(step.ranks[tile]) * projections
            if rows:
                a = elements(step, tile, offset, rows * x.shape[1], x.dtype)
                out[tokens, :rows] = x[tokens].float() @ a.view(rows, -1).T

    def project(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        step: Step,
        *,
        offset: int,
        projections: int,
        out: torch.Tensor | None,
        in_pieces: bool = False,
    ) -> torch.Tensor:
        assert step.tile == 1
        if out is not None:
            self.shrink(x, step, offset=offset, projections=projections, out=out)
        wide = None if bias is None else bias.float()
        y = F.linear(x.float(), weight.float(), wide)
        return torch.stack([y / 4, y * 3 / 4]) if in_pieces else y.to(x.dtype)

    def choose(
        self,
        logits: torch.Tensor,
        seen: torch.Tensor,
        rows: Rows,
        drawn: torch.Tensor,
        *,
        size: int,
    ) -> None:
        for row in range(size):
            if int(rows.kind[row]) != SKIPPED:
                self._choose(logits[row], seen, rows, drawn, row)

    def _choose(
        self, logits: torch.Tensor, seen: torch.Tensor, rows: Rows, drawn: torch.Tensor, row: int
    ) -> None:
        uniform, temperature, top_p, min_p, *penalties = rows.numbers[row].tolist()
        top_k, line, withheld, *ids = rows.wholes[row].tolist()
        for token in ids[:withheld]:
            if token < len(logits):
                logits[token] = float("-inf")
        if line >= 0:
            penalise(logits, seen[line], *penalties)
        is_drawn = int(rows.kind[row]) == DRAWN
        sampling = SamplingParams(
            temperature=temperature if is_drawn else 0.0, top_k=top_k, top_p=top_p, min_p=min_p
        )
        [found] = sample(logits[None].clone(), [Draw(sampling=sampling, uniform=uniform)])
        is_finite = not logits.isnan().any() and logits.max() < float("inf")
        peak = logits.max() if is_finite else torch.tensor(float("nan"))
        drawn[row, 0] = found.token or 0
        drawn[row, 1] = peak.view(torch.int32)
        if line >= 0:
            seen[line, drawn[row, 0]] = max(int(seen[line, drawn[row, 0]]), 1) + 1


def _found(
    queries: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor], step: Step
) -> torch.Tensor:
    """[T, heads * head_dim]: what ``queries`` [T, heads, head_dim] find in a complete ``cache``."""
    keys, values = cache
    _, kv_heads, block, head_dim = keys.shape
    out = torch.zeros(queries.flatten(1).shape)
    for tile, tokens in tiles_of(step):
        row = tile if step.tile == 1 else int(step.rows[tile])
        for token in range(tokens.start, tokens.stop):
            position = int(step.positions[token])
            if position < 0:
                continue
            table = step.tables[row, : position // block + 1].long()
            k, v = (
                each[table].transpose(0, 1).flatten(1, 2)[:, : position + 1].float()
                for each in (keys, values)
            )
            query = queries[token].view(kv_heads, -1, head_dim).float()
            weights = (query @ k.transpose(1, 2) / head_dim**0.5).softmax(-1)
            out[token] = (weights @ v).flatten()
    return out.to(queries.dtype)


def penalise(
    logits: torch.Tensor, times: torch.Tensor, repetition: float, frequency: float, presence: float
) -> None:
    """Penalties of the tokens that were seen."""
    score = logits.double()
    score = torch.where(score < 0, score * repetition, score / repetition)
    counts = (times - 1).clamp(min=0)
    score -= counts * frequency
    score -= torch.where(counts > 0, presence, 0.0)
    logits.copy_(torch.where(times > 0, score.float(), logits))
