"""How a plan of chunks becomes tokens: one way for models that compute a step at once."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from time import perf_counter
from typing import Protocol

import torch

from server.engine.batch import Batch, build
from server.engine.cache import KVCache
from server.engine.draw import Draw, Drawn, Scores, certain
from server.engine.loop import Reading, Result
from server.engine.lora import LoadedAdapter
from server.engine.sampling import Sampler
from server.engine.sequence import Chunk


class Steps(Protocol):
    """Computes steps over one cache. Called by the engine thread alone.

    ``is_ahead``: one may be launched before the one before it is read.
    """

    @property
    def is_ahead(self) -> bool: ...

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        """Compute ``chunks``, which are in batch order and whose blocks are there.

        What is read is one token for each that is sampled, and one more for every right guess.
        """

    def timings(self) -> Mapping[str, float]:
        """Seconds spent so far, by kind of work; empty where nobody counts."""


class Forward(Protocol):
    """What turns a batch into logits."""

    @property
    def device(self) -> torch.device: ...

    def forward(
        self, batch: Batch, cache: KVCache, adapters: Rows[LoadedAdapter | None]
    ) -> torch.Tensor: ...

    def timings(self) -> Mapping[str, float]: ...


class PlainSteps:
    """Logits from ``model``, then tokens from ``sample``; a launched step is computed.

    So nothing is gained by being ahead.
    """

    is_ahead = False

    def __init__(self, model: Forward, cache: KVCache, sample: Sampler) -> None:
        self._model = model
        self._cache = cache
        self._sample = sample
        self._sampling_s = 0.0
        self._unread: dict[int, int] = {}  # what the latest step drew, by the sequence's key

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        batch = build(chunks, self._model.device, self._unread)
        adapters = [chunk.sequence.adapter for chunk in chunks]
        logits = self._model.forward(batch, self._cache, adapters)
        begun_s = perf_counter()
        results = self._sampled(logits, [each for each in chunks if each.is_sampled or each.scored])
        self._sampling_s += perf_counter() - begun_s
        self._unread = {
            sequence.key: found.token or 0
            for sequence, found in results
            if not isinstance(found, Scores)
        }
        return lambda: results

    def _sampled(self, logits: torch.Tensor, chunks: Rows[Chunk]) -> list[Result]:
        wanted = [draw for chunk in chunks for draw in draws(chunk, self._unread)]
        return per_sequence(chunks, self._sample(logits, wanted))

    def timings(self) -> Mapping[str, float]:
        """Empty on a GPU, where work outlasts its call."""
        if self._model.device.type != "cpu":
            return {}
        return {**self._model.timings(), "sampling": self._sampling_s}


def draws(chunk: Chunk, unread: Mapping[int, int]) -> list[Draw]:
    """What the choice after its last token, and after each guessed one, depends on.

    Before them, the tokens that are given where it is scored. ``unread``: as for
    :func:`server.engine.batch.build`.
    """
    given = [certain(token, wanted) for token, wanted in given_tokens(chunk)]
    if not chunk.is_sampled:
        return given
    sequence = chunk.sequence
    known = (unread[sequence.key],) if sequence.unread else ()
    last = range(len(chunk.guess) + 1)
    return [*given, *(sequence.draw((*known, *chunk.guess[:ahead])) for ahead in last)]


def given_tokens(chunk: Chunk) -> list[tuple[int, int]]:
    """Where a chunk is scored, the token that follows each position; how many others to tell."""
    sequence = chunk.sequence
    wanted = sequence.sampling.prompt_logprobs or 0
    return [(sequence.tokens[position + 1], wanted) for position in chunk.scored]


def per_sequence(chunks: Rows[Chunk], drawn: Rows[Drawn]) -> list[Result]:
    """Of ``drawn``, one for each position that ``chunks`` score or sample, those that count."""
    if len(drawn) == len(chunks) and not any(chunk.scored for chunk in chunks):  # no guess either
        return [(chunk.sequence, each) for chunk, each in zip(chunks, drawn, strict=True)]
    rows = iter(drawn)
    results: list[Result] = []
    for chunk in chunks:
        if chunk.scored:
            results.append((chunk.sequence, scores(chunk, [next(rows) for _ in chunk.scored])))
        own = in_line(chunk.guess, [next(rows) for _ in chunk.sampled])
        results += ((chunk.sequence, each) for each in own)
    return results


def scores(chunk: Chunk, drawn: Rows[Drawn]) -> Scores | Drawn:
    """The logprobs of the tokens that were given; or why one of them has none."""
    found = [each.logprobs for each in drawn if each.logprobs is not None]
    if len(found) < len(drawn):
        return next(each for each in drawn if each.logprobs is None)
    return Scores(chunk.scored.start + 1, tuple(found))


def in_line(guess: Rows[int], drawn: Rows[Drawn]) -> Rows[Drawn]:
    """Those of ``drawn`` that follow what was drawn before them: up to the first wrong guess."""
    pairs = enumerate(zip(guess, drawn, strict=False))
    wrong = next((at for at, (guessed, each) in pairs if each.token != guessed), len(guess))
    return drawn[: wrong + 1]
