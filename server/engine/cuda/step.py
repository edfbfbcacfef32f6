"""What the kernels are asked, and what they know of a step's tokens and of the rows to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

# What a row is: not to be touched, greedy, or drawn.
SKIPPED, GREEDY, DRAWN = 0, 1, 2
# For so many single tokens a linear layer is nothing but reading its weights: a power of two.
FEW = 4
# How many withheld tokens a row may name.
WITHHELD = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The tokens of one step, on the device. Nothing here but int32, addresses apart.

    ``tokens``, ``positions`` and ``places``: [T]. A token below 0 is the one that the step before
    drew in row ``-1 - token``; a position below 0 is no token at all, and its place is -1 too.

    ``tile``: how many tokens one has at most, 1 or 16. For each of ``tiles``: ``starts`` and
    ``counts``, its tokens; ``rows``, its line of ``tables`` [rows, blocks]; ``ranks`` and
    ``addresses`` (int64), its adapter. These lie in records: ``ranks.stride(0)`` words apart, an
    even number, and the addresses half as many. Of 16 a tile may have no token; what is no token
    is in no tile then.

    ``max_rank``: 0 where no token has an adapter, else at least the largest.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    tile: int
    tiles: int
    starts: torch.Tensor
    counts: torch.Tensor
    rows: torch.Tensor
    ranks: torch.Tensor
    addresses: torch.Tensor
    tables: torch.Tensor
    max_rank: int

    @property
    def count(self) -> int:
        """Its tokens."""
        return self.tokens.shape[0]

    @property
    def is_few(self) -> bool:
        """Whether a linear layer is nothing but reading its weights."""
        return self.tile == 1 and self.count <= FEW


@dataclass(frozen=True, slots=True)
class Share:
    """What adapters add to a projection: the ``shrunk`` inputs times their B.

    ``shrunk``: [T, columns] fp32, the products with their A. ``offset``: of B, in elements for each
    rank.
    """

    shrunk: torch.Tensor
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """What a layer's heads go through between their projection and attention.

    ``count``: those of queries. ``norm``: [count + kv_heads, head_dim], for queries and keys, with
    ``epsilon``. ``angles``: cosines and sines, [positions, head_dim] fp32 each.
    """

    count: int
    norm: torch.Tensor | None
    epsilon: float
    angles: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Split:
    """How several programs of attention share the text before each single token.

    ``programs``: how many at most, more than 1. ``arrived``: int32, zeros, at least T * kv_heads; a
    kernel counts there and leaves zeros. Of kernels that may run side by side, each needs its own.
    """

    programs: int
    arrived: torch.Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Settings of the rows to draw, on the device: views into one table of records.

    ``kind``: int32 [rows]. ``numbers``: fp64 [rows, 7], uniform number, temperature, top-p,
    min-p, repetition, frequency and presence penalty. ``wholes``: int32 [rows, 3 + WITHHELD],
    top-k, the line of what was seen (-1: none), how many tokens are withheld, and those.
    """

    kind: torch.Tensor
    numbers: torch.Tensor
    wholes: torch.Tensor


class Kernels(Protocol):
    """:mod:`server.engine.cuda.kernels` is one; tests have the same as formulas.

    Nothing waits for the device. ``T`` are all tokens of the step, in order; of those that are
    none, results may be anything.
    """

    def precompile(self, play: Callable[[], None], /) -> None:
        """Compile side by side what ``play`` would launch, without launching it.

        What its tensors hold is anything then. Kernels that cannot be compiled fail when they are
        launched.
        """

    def embed(self, step: Step, drawn: torch.Tensor, embedding: torch.Tensor, /) -> torch.Tensor:
        """[T, width]: rows of ``embedding`` [vocab, width]. ``drawn``: by the step before."""

    def add_norm(
        self,
        residual: torch.Tensor,
        added: torch.Tensor | None,
        weight: torch.Tensor,
        step: Step,
        /,
        *,
        epsilon: float,
        share: Share | None = None,
    ) -> torch.Tensor:
        """RMS norm of ``residual`` [T, width], to which ``added`` and ``share`` come, in place.

        ``added``: [T, width], or [pieces, T, width] that are added up.
        """

    def attend(
        self,
        qkv: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        step: Step,
        /,
        *,
        heads: Heads,
        share: Share | None = None,
        split: Split | None = None,
    ) -> torch.Tensor:
        """[T, heads * head_dim]: what queries find in their own text, up to themselves.

        ``qkv``: [T, all heads], which may be changed; ``share`` comes to it, then what ``heads``
        says. The step's keys and values go to their places in those of the ``cache``, [blocks,
        kv_heads, BLOCK_TOKENS, head_dim] each, which hold all before them. ``split``: only with
        single tokens.
        """

    def gate(
        self, gate_up: torch.Tensor, step: Step, /, *, share: Share | None = None
    ) -> torch.Tensor:
        """[T, width]: of ``gate_up`` [T, 2 * width] and ``share``, SiLU of half times half."""

    def shrink(
        self,
        x: torch.Tensor,
        step: Step,
        /,
        *,
        offset: int,
        projections: int,
        out: torch.Tensor,
    ) -> None:
        """Write ``x @ A.T`` of every token with its own adapter into ``out``.

        ``x``: [T, inputs]. ``out``: [T, columns] fp32, of which the first ``projections * rank``
        are written; nothing where there is no adapter. ``offset``: of A, in elements for each rank.
        """

    def project(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        step: Step,
        /,
        *,
        offset: int,
        projections: int,
        out: torch.Tensor | None,
        in_pieces: bool = False,
    ) -> torch.Tensor:
        """[T, outputs]: ``x @ weight.T + bias`` of single tokens.

        ``weight``: [outputs, inputs]. With ``out``, :meth:`shrink` as well. ``in_pieces``: it may
        be [pieces, T, outputs] in fp32, of which the sum is meant.
        """

    def choose(
        self,
        logits: torch.Tensor,
        seen: torch.Tensor,
        rows: Rows,
        drawn: torch.Tensor,
        /,
        *,
        size: int,
    ) -> None:
        """Choose a token for the first ``size`` rows, as :mod:`server.engine.sampling` says.

        It begins with the penalties; what comes before them is done, but for withheld tokens.
        ``logits``: [rows, vocab] fp32, changed in place. ``seen``: [lines, vocab] int32: 0 for a
        token that was not seen, 1 for one of the prompt's, and one more for each time that the
        reply has it; the chosen one is counted. ``drawn``: [rows, 2] int32, gets the token and the
        bits of the largest logit: no number where one of the logits is none, or infinite.
        """
