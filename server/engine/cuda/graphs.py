"""Steps that are recorded once as CUDA graphs, and then replayed without Python."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from time import perf_counter
from typing import Generic, TypeVarTuple

import torch

from adapters.errors import LcccError

logger = logging.getLogger(__name__)

Variant = TypeVarTuple("Variant")


def sizes_up_to(most: int, least: int = 1) -> list[int]:
    """Numbers of rows, or of tokens, that steps are recorded for.

    Each is at most a quarter larger than needed, but for those below 64 and, where this is more,
    below four times the ``least``.
    """
    return list(_sizes(most, least))


def _sizes(most: int, least: int) -> Iterator[int]:
    size, step = least, max(8, least)
    while size < most:
        yield size
        # 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, … or 32, 64, 96, 128, 160, 192, …
        size += max(step, 1 << size.bit_length() - 3) if size >= 2 * step else size
    yield most


class StepFails(LcccError):
    """A step cannot be computed on this GPU by the kernels that there are: no reply would come."""

    def __init__(self, error: Exception) -> None:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        super().__init__(
            f"The engine's kernels fail on this GPU ({said}); the log says where. "
            "`--kernels torch` (LCCC_KERNELS=torch) serves without them, more slowly."
        )


class Recorder:
    """Records graphs for one stream, in which each is replayed after another.

    So they share their memory: what is read of a graph once the next one is replayed has to lie
    elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        torch.cuda.synchronize(device)  # what graphs read, and write to, is there
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def play(self, play: Callable[[], None]) -> None:
        """Call ``play`` and wait for what it launches. Libraries are prepared by then."""
        with torch.cuda.stream(self._stream):
            play()
        self._stream.synchronize()

    def record(self, play: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """A graph of what ``play`` launches, which was played before."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            play()
        return graph


class Graphs(Generic[*Variant]):
    """Makes steps of ``play(size, *variant)``, which does the same each time for the same.

    They are played until all ``sizes`` of all ``variants`` are recorded, and where that fails; from
    then on they are replayed.
    """

    def __init__(
        self,
        play: Callable[[int, *Variant], None],
        sizes: Sequence[int],
        variants: Sequence[tuple[*Variant]],
    ) -> None:
        self._play = play
        self._sizes = sizes
        self._variants = variants
        self._graphs: dict[tuple[int, *Variant], torch.cuda.CUDAGraph] = {}

    def __len__(self) -> int:
        """How many are recorded."""
        return len(self._graphs)

    @property
    def most(self) -> int:
        """The largest size."""
        return self._sizes[-1]

    def size(self, count: int) -> int:
        """The least in which ``count`` have room, if they have in any."""
        return self._sizes[bisect_left(self._sizes, count)]

    def replay(self, size: int, *variant: *Variant) -> None:
        """Compute the step, on the current stream."""
        graph = self._graphs.get((size, *variant))
        if graph is None:
            self._play(size, *variant)
        else:
            graph.replay()

    def play_all(self, recorder: Recorder) -> None:
        """Play each as it will be before it is recorded, whatever fails: then it fails again."""
        for size, variant in self._every():
            with suppress(Exception):
                recorder.play(partial(self._play, size, *variant))

    def record_all(self, recorder: Recorder) -> None:
        """Record each, or none.

        Raises:
            StepFails: one of them cannot even be played, and not for want of memory.
        """
        begun_s = perf_counter()
        every = self._every()
        logger.info("Recording %d CUDA graphs.", len(every))
        for size, variant in every:
            play = partial(self._play, size, *variant)
            try:
                _try_out(play, recorder)
                self._graphs[size, *variant] = recorder.record(play)
            except StepFails:
                raise
            except Exception:
                logger.exception(
                    "A step of %d could not be recorded as a graph: steps of this kind will be much"
                    " slower. Where memory was short, lower --max-running or --kv-cache-tokens.",
                    size,
                )
                self._graphs.clear()
                return
        logger.info("%d CUDA graphs recorded in %.1f s.", len(self), perf_counter() - begun_s)

    def _every(self) -> list[tuple[int, tuple[*Variant]]]:
        """The largest first, so that the others find room in its memory."""
        return list(product(reversed(self._sizes), self._variants))


def _try_out(play: Callable[[], None], recorder: Recorder) -> None:
    """Play once. Only with too little memory may a step fail, since smaller ones may do."""
    try:
        recorder.play(play)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        logger.exception("A step fails on this GPU.")
        raise StepFails(error) from error
