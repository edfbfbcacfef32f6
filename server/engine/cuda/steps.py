"""Steps on a GPU: put in its queue, and read when the next one is queued behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import torch

from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.cuda.decoder import TileDecoder
from server.engine.cuda.graphs import Graphs
from server.engine.cuda.inputs import SingleTokens, mixed_step, stack_of
from server.engine.cuda.sampler import Sampler
from server.engine.cuda.step import Kernels
from server.engine.draw import Draw, Drawn
from server.engine.loop import Reading, Result
from server.engine.sequence import Chunk, Sequence
from server.engine.steps import given_tokens, per_sequence

# Graphs have room for the factors of adapters up to this rank; steps with larger ones are none.
GRAPH_RANK = 256
MOST_SPLITS = 32


class CudaSteps:
    """Computes steps with ``decoder`` over ``cache``.

    A step in which every sequence has one token, which is drawn from, is a graph, sampling
    included. Others are made operation by operation of the same kernels. What needs more than the
    kernels know (grammars, biases, logprobs) comes behind, for its own rows.

    Nothing here waits for the GPU but reading. Steps are computed in the order in which they are
    launched, so memory that the host has given to another use is written in that order too.
    """

    def __init__(
        self, decoder: TileDecoder, kernels: Kernels, cache: KVCache, config: EngineConfig
    ) -> None:
        self.is_ahead = not config.speculative_tokens  # guesses follow tokens that are read
        self._decoder = decoder
        self._cache = cache
        self._device = cache.keys[0].device
        self._unread: dict[int, int] = {}  # where the latest step drew, by the sequence's key
        self._rows: list[Sequence] = []  # of the latest step, where it was a graph
        self._has_adapters = False  # any of those
        self._busy_s = 0.0
        shape = config.base.architecture
        self._kv_heads = shape.kv_heads
        rows = config.running_limit + config.speculative_tokens
        self._sampler = Sampler(shape.vocab_size, rows, kernels, self._device)
        self._singles = SingleTokens(
            config.running_limit, config.context_length, GRAPH_RANK, self._device
        )
        is_cuda = self._device.type == "cuda"
        self._most_programs = 2 * multiprocessors(self._device)
        self._stream = torch.cuda.Stream(self._device) if is_cuda else None
        with torch.inference_mode():
            self._clear()
            self._graphs = Graphs(self._single_tokens, config.running_limit, self._device)

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        with self._queue():
            sampled = [chunk for chunk in chunks if chunk.is_sampled]
            # In batch order longer chunks are last, so that one look tells of all.
            is_graph = len(sampled) == len(chunks) and chunks[-1].count == 1
            rows = [chunk.sequence for chunk in chunks] if is_graph else []
            is_same = is_graph and rows == self._rows
            scored = None
            if is_same or (is_graph and _fits(chunks)):
                begun = self._launch_graph(chunks, rows, is_same=is_same)
            else:
                rows = []
                begun, scored = self._launch_mixed(chunks, sampled)
            self._rows = rows
            if not is_same:
                self._unread = _places(sampled)
            read = self._sampler.finish() if sampled else _nothing
            ended = self._mark()
        return lambda: self._read(chunks, read, scored, begun, ended)

    def timings(self) -> Mapping[str, float]:
        """How long the GPU worked on steps; the rest of the time it waited for one."""
        return {} if self._stream is None else {"gpu": self._busy_s}

    def _launch_graph(
        self, chunks: Rows[Chunk], rows: list[Sequence], *, is_same: bool
    ) -> torch.cuda.Event | None:
        """When it began. ``is_same``: the step before was a graph of the same ``rows``."""
        size = self._graphs.size(len(chunks))
        if not (is_same and self._goes_on(rows)):
            self._sampler.prepare(*_draws(chunks), size=size)
        if is_same and all([row.unread for row in rows]):  # noqa: C419 - a list is quicker
            self._singles.send_next(chunks, size)
        else:
            self._singles.send(chunks, self._unread, size)
        if not is_same:
            self._has_adapters = any(row.adapter is not None for row in rows)
        begun = self._mark()
        self._graphs.replay(size, has_adapters=self._has_adapters)
        return begun

    def _goes_on(self, rows: list[Sequence]) -> bool:
        """Whether sampling is prepared for ``rows``, which are those of the step before."""
        uniforms = [row.guide.going_on(row.unread) for row in rows]
        known = [each for each in uniforms if each is not None]
        return len(known) == len(rows) and self._sampler.goes_on(known)

    def _single_tokens(self, size: int, has_adapters: bool) -> None:
        """What a graph is."""
        step = self._singles.step(size, has_adapters=has_adapters)
        hidden = self._decoder.hidden(
            step, self._sampler.drawn, self._cache, splits=self._splits(size)
        )
        self._sampler.logits[:size] = self._decoder.logits(hidden)
        self._sampler.choose(size)

    def _launch_mixed(
        self, chunks: Rows[Chunk], sampling: Rows[Chunk]
    ) -> tuple[torch.cuda.Event | None, torch.Tensor | None]:
        """When it began, and logits [positions, vocab] of what is scored, if anything is."""
        draws, lacking = _draws(sampling)
        step, sampled, scored = mixed_step(chunks, self._unread, self._device)
        begun = self._mark()
        hidden = self._decoder.hidden(step, self._sampler.drawn, self._cache)
        if draws:
            count = len(draws)
            self._sampler.prepare(draws, lacking, size=count)
            self._sampler.logits[:count] = self._decoder.logits(hidden[sampled])
            self._sampler.choose(count)
        return begun, self._decoder.logits(hidden[scored]).float() if len(scored) else None

    def _read(
        self,
        chunks: Rows[Chunk],  # holds their adapters until they are computed
        read: Callable[[], list[Drawn]],
        scored: torch.Tensor | None,
        begun: torch.cuda.Event | None,
        ended: torch.cuda.Event | None,
    ) -> Rows[Result]:
        drawn = read()
        if begun is not None and ended is not None:
            ended.synchronize()
            self._busy_s += begun.elapsed_time(ended) / 1000
        if scored is None:
            return per_sequence([chunk for chunk in chunks if chunk.is_sampled], drawn)
        wanted = [each for chunk in chunks for each in given_tokens(chunk)]
        rows, given = iter(drawn), iter(self._sampler.given(scored, wanted))
        both = [
            each
            for chunk in chunks
            for each in (*islice(given, len(chunk.scored)), *islice(rows, len(chunk.sampled)))
        ]
        return per_sequence([each for each in chunks if each.is_sampled or each.scored], both)

    def _splits(self, size: int) -> int:
        """Into how many pieces attention cuts each text so that the whole GPU works: 1 to 32."""
        splits, programs = 1, size * self._kv_heads
        while splits < MOST_SPLITS and 2 * splits * programs <= self._most_programs:
            splits *= 2
        return splits

    def _queue(self) -> AbstractContextManager[object]:
        """Work goes to this object's own stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _mark(self) -> torch.cuda.Event | None:
        if self._stream is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _clear(self) -> None:
        """Make every row one that is none, for the recording of graphs."""
        self._singles.send([], {}, self._singles.rows)
        self._sampler.prepare([], [], size=self._singles.rows)


def multiprocessors(device: torch.device) -> int:
    """How many the GPU has; Triton's interpreter is one."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _fits(chunks: Rows[Chunk]) -> bool:
    """Whether graphs have room for the adapters."""
    return all(stack is None or stack.rank <= GRAPH_RANK for stack in map(stack_of, chunks))


def _draws(sampled: Rows[Chunk]) -> tuple[list[Draw], list[int]]:
    """What every choice depends on, and how many tokens the history in it lacks."""
    lacking = [chunk.sequence.unread for chunk in sampled for _ in range(len(chunk.guess) + 1)]
    draws = [
        chunk.sequence.guide.draw(chunk.guess[:ahead], unread=chunk.sequence.unread)
        for chunk in sampled
        for ahead in range(len(chunk.guess) + 1)
    ]
    return draws, lacking


def _places(sampled: Rows[Chunk]) -> dict[int, int]:
    """How the next step names what these draw: see :class:`server.engine.cuda.step.Step`."""
    return {chunk.sequence.key: -1 - row for row, chunk in enumerate(sampled)}


def _nothing() -> list[Drawn]:
    return []
