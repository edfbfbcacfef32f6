"""A model for a GPU that computes nothing: what is left of a token's cost is the host's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import thread_time
from typing import Any

import torch

from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.cuda.adapter import FlatStack, Layout, flat_stack
from server.engine.cuda.steps import CudaSteps
from server.engine.loop import Reading
from server.engine.lora import LoraStack
from server.engine.sequence import Chunk

TURNS = 64  # steps until the same tokens come again


class IdleModel:
    """A :class:`server.engine.model.Model` whose steps are those of a GPU, on CPU tensors.

    Steps are prepared and read as on a GPU, adapters packed as for one; between, nothing is
    computed, and every row draws one of ``tokens``. ``spent`` counts the seconds of the engine's
    thread by part.
    """

    def __init__(self, config: EngineConfig, tokens: Sequence[int], spent: Spent) -> None:
        self.device = self.adapter_device = torch.device("cpu")
        self.adapter_dtype = self.kv_dtype = torch.float32
        self._layout = Layout(config.base.architecture)
        self._tokens = tokens
        self._spent = spent

    def steps(self, cache: KVCache, config: EngineConfig) -> IdleSteps:
        return IdleSteps(cache, config, self._tokens, self._spent)

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:  # noqa: ARG002 - all have room
        return rank * self._layout.size * self.adapter_dtype.itemsize

    def packed(self, stack: LoraStack, rank: int) -> FlatStack:
        return flat_stack(stack, self._layout, rank, self.device)


class Spent:
    """Seconds of processor time by part, of one thread at a time."""

    def __init__(self) -> None:
        self.by_part: dict[str, float] = {}

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count what the calling thread computes meanwhile."""
        begun_s = thread_time()
        try:
            yield
        finally:
            taken_s = thread_time() - begun_s
            self.by_part[part] = self.by_part.get(part, 0.0) + taken_s

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, whose time is counted."""

        def counted(*arguments: Any) -> Any:
            with self.on(part):
                return call(*arguments)

        return counted


class IdleSteps(CudaSteps):
    """What :class:`IdleModel` has in the place of graphs: rows draw their next tokens."""

    def __init__(
        self, cache: KVCache, config: EngineConfig, tokens: Sequence[int], spent: Spent
    ) -> None:
        self._spent = spent
        kernels = _Supply(tokens, config.running_limit)
        super().__init__(None, kernels, cache, config)  # type: ignore[arg-type] # nothing else is called
        # Likelier than others, in all rows: an adapter that tells no token from another is refused.
        self._sampler.logits[:, list(tokens)] = 10.0

    def _single_tokens(self, size: int, has_adapters: bool) -> None:  # noqa: ARG002 - a graph's
        self._sampler.choose(size)

    def _body(self, size: int, has_adapters: bool) -> None:
        pass

    def _head(self, size: int) -> None:
        self._sampler.choose(size)

    def launch(self, chunks: Sequence[Chunk]) -> Reading:
        with self._spent.on("launch"):
            read = super().launch(chunks)
        return self._spent.timed("read", read)

    def timings(self) -> Mapping[str, float]:
        return {}


class _Supply:
    """Kernels of which only the last is called."""

    def __init__(self, tokens: Sequence[int], rows: int) -> None:
        drawn = [tokens[at % len(tokens)] for at in range(TURNS * rows)]
        self._turns = itertools.cycle(torch.tensor(drawn, dtype=torch.int32).view(TURNS, rows))

    def choose(
        self, _logits: object, _counts: object, _rows: object, drawn: torch.Tensor, *, size: int
    ) -> None:
        """Draw what comes next in every row."""
        drawn[:size, 0] = next(self._turns)[:size]
