"""Steps that are recorded once as CUDA graphs, and then replayed without Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

logger = logging.getLogger(__name__)


def sizes_up_to(most: int) -> list[int]:
    """Numbers of rows that steps are recorded for: each at most a quarter larger than needed."""
    return list(_sizes(most))


def _sizes(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        # 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, …
        size += max(8, 1 << size.bit_length() - 3) if size >= 16 else size  # noqa: PLR2004
    yield most


class Graphs:
    """Makes steps of ``play(size, has_adapters)``, which does the same each time it is called.

    On a GPU they are replayed, from the first on; elsewhere, and where recording fails, played.
    """

    def __init__(self, play: Callable[[int, bool], None], most: int, device: torch.device) -> None:
        self._play = play
        self._sizes = sizes_up_to(most)
        self._graphs: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        if device.type == "cuda":
            self._record_all(device)

    @property
    def most(self) -> int:
        """The most rows that a step can have."""
        return self._sizes[-1]

    def size(self, count: int) -> int:
        """How many rows are computed for ``count``."""
        return next(size for size in self._sizes if size >= count)

    def replay(self, size: int, *, has_adapters: bool) -> None:
        """Compute the step of ``size`` rows, on the current stream."""
        graph = self._graphs.get((size, has_adapters))
        if graph is None:
            self._play(size, has_adapters)
        else:
            graph.replay()

    def _record_all(self, device: torch.device) -> None:
        """Record every size, the largest first, so that the others find room in its memory."""
        pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(device)
        try:
            for size in reversed(self._sizes):
                for has_adapters in (True, False):
                    self._graphs[size, has_adapters] = self._recorded(
                        size, has_adapters, pool, stream
                    )
        except Exception:
            logger.exception("Steps could not be recorded as graphs: they will be much slower.")
            self._graphs.clear()
        torch.cuda.synchronize(device)

    def _recorded(
        self, size: int, has_adapters: bool, pool: Any, stream: torch.cuda.Stream
    ) -> torch.cuda.CUDAGraph:
        with torch.cuda.stream(stream):  # kernels are compiled, and libraries prepared, before
            self._play(size, has_adapters)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._play(size, has_adapters)
        return graph
