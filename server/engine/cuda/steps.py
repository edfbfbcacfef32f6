"""Steps on a GPU: put in its queue, and read when the next one is queued behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from itertools import islice

import torch

from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.cuda.decoder import TileDecoder
from server.engine.cuda.graphs import Graphs, Recorder, sizes_up_to
from server.engine.cuda.inputs import SingleTokens, stack_of
from server.engine.cuda.pieces import TILE, Pieces, scored_tokens
from server.engine.cuda.sampler import Sampler
from server.engine.cuda.step import Kernels, Split
from server.engine.cuda.stream import Stream
from server.engine.draw import Draw, Drawn
from server.engine.loop import Reading, Result
from server.engine.sequence import Chunk, Sequence
from server.engine.steps import given_tokens, per_sequence
from server.engine.transfer import to_device

# Graphs have room for the factors of adapters up to this rank; steps with larger ones are none.
GRAPH_RANK = 256
# The least and the most tokens of steps with pieces of prompts that are graphs. Fewer take no less
# time; with more, there is enough to do while the next operation is launched.
LEAST_TOKENS, MOST_TOKENS = 32, 4096
MOST_SPLITS = 32
# Steps without adapters have graphs of their own.
WITH_OR_WITHOUT = (True,), (False,)


class CudaSteps:
    """Computes steps with ``decoder`` over ``cache``.

    A step in which every sequence has one token, which is drawn from, is a graph, sampling
    included. One with pieces of prompts is two: the body, up to what the head reads, and the head
    with sampling, if there is any. What graphs have no room for is launched operation by operation.
    What needs more than the kernels know (grammars, biases, logprobs) comes behind, for its own
    rows.

    Nothing here waits for the GPU but reading. Steps are computed in the order in which they are
    launched, so memory that the host has given to another use is written in that order too.
    """

    def __init__(
        self, decoder: TileDecoder, kernels: Kernels, cache: KVCache, config: EngineConfig
    ) -> None:
        self.is_ahead = not config.speculative_tokens  # guesses follow tokens that are read
        self._decoder = decoder
        self._kernels = kernels
        self._cache = cache
        self._device = cache.keys[0].device
        self._unread: dict[int, int] = {}  # where the latest step drew, by the sequence's key
        self._rows: list[Sequence] = []  # of the latest step, where each had one token
        self._rank = 0  # the largest of an adapter in the latest step
        shape = config.base.architecture
        self._kv_heads = shape.kv_heads
        self._most_programs = 2 * multiprocessors(self._device)
        # One for each text and key head; texts are cut where these are half the programs or less.
        counters = self._most_programs // 2
        self._arrived = torch.zeros(counters, dtype=torch.int32, device=self._device)
        rows, context_length = config.running_limit, config.context_length
        draws = rows + config.speculative_tokens
        tokens = max(LEAST_TOKENS, TILE * -(-(draws + config.prefill_tokens) // TILE))
        body_sizes = sizes_up_to(min(tokens, MOST_TOKENS), LEAST_TOKENS)
        self._sampler = Sampler(shape.vocab_size, draws, kernels, self._device)
        self._singles = SingleTokens(rows, context_length, GRAPH_RANK, self._device)
        self._pieces = Pieces(rows, tokens, draws, context_length, self._device)
        # What a body leaves to the head, and to scoring; graphs share their own memory.
        self._hidden = cache.keys[0].new_zeros((body_sizes[-1], shape.hidden_size))
        self._stream = Stream(self._device)
        self._single_graphs = Graphs(self._single_tokens, sizes_up_to(rows), WITH_OR_WITHOUT)
        self._bodies = Graphs(self._body, body_sizes, WITH_OR_WITHOUT)
        self._heads = Graphs(self._head, sizes_up_to(draws), [()])
        with torch.inference_mode():
            self._clear()
            if self._device.type == "cuda":
                self._record(Recorder(self._device))

    def _record(self, recorder: Recorder) -> None:
        """Record all graphs, once the kernels are compiled that are in them."""
        every = self._single_graphs, self._bodies, self._heads

        def play_all() -> None:
            for graphs in every:
                graphs.play_all(recorder)

        whole, self._decoder = self._decoder, self._decoder.of_one_layer()
        try:
            self._kernels.precompile(play_all)
        finally:
            self._decoder = whole
        for graphs in every:
            graphs.record_all(recorder)

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        with self._stream.using():
            sampled = [chunk for chunk in chunks if chunk.is_sampled]
            # In batch order longer chunks are last, so that one look tells of all.
            is_single = len(sampled) == len(chunks) and chunks[-1].count == 1
            rows = [chunk.sequence for chunk in chunks] if is_single else []
            is_same = is_single and rows == self._rows
            if not is_same:
                self._rank = most_rank(chunks)
            scored = None
            if is_single and self._rank <= GRAPH_RANK:
                begun = self._launch_single(chunks, rows, is_same=is_same)
            else:
                rows = []
                begun, scored = self._launch_pieces(chunks, sampled)
            self._rows = rows
            if not is_same:
                self._unread = _places(sampled)
            read = self._sampler.finish() if sampled else _nothing
            ended = self._stream.mark()
        return lambda: self._read(chunks, read, scored, begun, ended)

    def timings(self) -> Mapping[str, float]:
        """How long the GPU worked on steps; the rest of the time it waited for one."""
        busy_s = self._stream.busy_s
        return {} if busy_s is None else {"gpu": busy_s}

    def _launch_single(
        self, chunks: Rows[Chunk], rows: list[Sequence], *, is_same: bool
    ) -> torch.cuda.Event | None:
        """When it began. ``is_same``: the step before was one of the same ``rows``."""
        size = self._single_graphs.size(len(chunks))
        if not (is_same and self._goes_on(rows)):
            self._sampler.prepare(*_draws(chunks), size=size)
        if is_same and all([row.unread for row in rows]):  # noqa: C419 - a list is quicker
            self._singles.send_next(chunks, size)
        else:
            self._singles.send(chunks, self._unread, size)
        begun = self._stream.mark()
        self._single_graphs.replay(size, self._rank > 0)
        return begun

    def _goes_on(self, rows: list[Sequence]) -> bool:
        """Whether sampling is prepared for ``rows``, which are those of the step before."""
        uniforms = [row.guide.going_on(row.unread) for row in rows]
        known = [each for each in uniforms if each is not None]
        return len(known) == len(rows) and self._sampler.goes_on(known)

    def _single_tokens(self, size: int, has_adapters: bool) -> None:
        """What a step of single tokens is."""
        step = self._singles.step(size, has_adapters=has_adapters)
        hidden = self._decoder.hidden(
            step, self._sampler.drawn, self._cache, split=self._split(size)
        )
        self._decoder.logits(hidden, self._sampler.logits[:size])
        self._sampler.choose(size)

    def _launch_pieces(
        self, chunks: Rows[Chunk], sampled: Rows[Chunk]
    ) -> tuple[torch.cuda.Event | None, torch.Tensor | None]:
        """When it began, and logits [positions, vocab] of what is scored, if anything is."""
        count = sum(chunk.count for chunk in chunks)
        is_graph = self._rank <= GRAPH_RANK and count <= self._bodies.most
        size = self._bodies.size(count) if is_graph else count
        self._pieces.send(chunks, self._unread, size)
        begun = self._stream.mark()
        hidden = self._hidden
        if is_graph:
            self._bodies.replay(size, self._rank > 0)
        else:
            step = self._pieces.step(size, max_rank=self._rank)
            hidden = self._decoder.hidden(step, self._sampler.drawn, self._cache)
        if sampled:
            draws, lacking = _draws(sampled)
            rows = self._heads.size(len(draws))
            self._sampler.prepare(draws, lacking, size=rows)
            if is_graph:
                self._heads.replay(rows)
            else:
                self._choose(hidden, rows)
        scored = scored_tokens(chunks)
        if not scored:
            return begun, None
        at = to_device(torch.tensor(scored), self._device)
        return begun, self._decoder.logits(hidden[at])

    def _body(self, size: int, has_adapters: bool) -> None:
        """What a step with pieces of prompts is, up to the head."""
        step = self._pieces.step(size, max_rank=GRAPH_RANK if has_adapters else 0)
        self._hidden[:size] = self._decoder.hidden(step, self._sampler.drawn, self._cache)

    def _head(self, size: int) -> None:
        """What comes behind, where ``size`` tokens are drawn."""
        self._choose(self._hidden, size)

    def _choose(self, hidden: torch.Tensor, size: int) -> None:
        sampled = hidden.index_select(0, self._pieces.sampled[:size])
        self._decoder.logits(sampled, self._sampler.logits[:size])
        self._sampler.choose(size)

    def _read(
        self,
        chunks: Rows[Chunk],  # holds their adapters until they are computed
        read: Callable[[], list[Drawn]],
        scored: torch.Tensor | None,
        begun: torch.cuda.Event | None,
        ended: torch.cuda.Event | None,
    ) -> Rows[Result]:
        drawn = read()
        self._stream.note(begun, ended)
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

    def _split(self, size: int) -> Split | None:
        """Into how many pieces attention cuts each text so that the whole GPU works: 2 to 32."""
        splits, programs = 1, size * self._kv_heads
        while splits < MOST_SPLITS and 2 * splits * programs <= self._most_programs:
            splits *= 2
        return Split(splits, self._arrived) if splits > 1 else None

    def _clear(self) -> None:
        """Make every row one that is none, for the recording of graphs; pieces are none yet."""
        self._singles.send([], {}, self._singles.rows)
        self._sampler.prepare([], [], size=len(self._sampler.drawn))


def multiprocessors(device: torch.device) -> int:
    """How many the GPU has; Triton's interpreter is one."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def most_rank(chunks: Rows[Chunk]) -> int:
    """The largest rank of an adapter; 0 where there is none."""
    stacks = {id(stack): stack for stack in map(stack_of, chunks) if stack is not None}
    return max((stack.rank for stack in stacks.values()), default=0)


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
