"""The tensors of one engine, and how they turn a plan of chunks into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from time import perf_counter

import torch

from adapters.entry import Entry
from server.engine.adapter import load_adapter
from server.engine.batch import build, in_batch_order
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.draw import Draw, Drawn
from server.engine.loop import Reading
from server.engine.lora import LoadedAdapter
from server.engine.memory import cache_blocks
from server.engine.model import load_model
from server.engine.sampling import sampler_for
from server.engine.sequence import Chunk, Sequence


class Runner:
    """Model and cache. :meth:`launch` is called by the engine thread alone.

    ``is_ahead``: one step may be launched before the one before it is read; on a CPU, where a step
    is computed at once, nothing is gained by that.

    Raises:
        BaseInvalid: the base needs something this engine does not do.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._base = config.base
        self._model = load_model(config)
        self._device = self._model.device
        self._sampling_s = 0.0
        self._unread: dict[int, int] = {}  # what the latest step drew, by the sequence's key
        self._sample = sampler_for(self._device, may_be_native=config.kernels != "torch")
        self.blocks = cache_blocks(config, self._model.kv_dtype)
        self._cache = KVCache(
            config.base.architecture,
            blocks=self.blocks,
            dtype=self._model.kv_dtype,
            device=self._device,
        )

    @property
    def is_ahead(self) -> bool:
        return False

    def adapter_bytes(self, entry: Entry) -> int:
        """What :meth:`load` of this entry will take."""
        return self._model.adapter_bytes(entry.manifest.rank, entry.manifest.target_modules)

    def load(self, entry: Entry) -> LoadedAdapter:
        """Read an adapter; safe in any thread. Errors are those of ``load_adapter``."""
        dtype = self._model.adapter_dtype
        stack = load_adapter(entry, self._base, dtype=dtype, device=self._device)
        return LoadedAdapter(entry.digest, self._model.packed(stack, entry.manifest.rank))

    def timings(self) -> Mapping[str, float]:
        """Seconds spent so far, by kind of work; empty on a GPU, where work outlasts its call."""
        if self._device.type != "cpu":
            return {}
        return {**self._model.timings(), "sampling": self._sampling_s}

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        """Compute ``chunks``, whose blocks are there; the next tokens of those that are sampled.

        One each, and one more for every guess that was right.
        """
        with torch.inference_mode():
            ordered = in_batch_order(chunks)
            batch = build(ordered, self._device, self._unread)
            adapters = [chunk.sequence.adapter for chunk in ordered]
            logits = self._model.forward(batch, self._cache, adapters)
            begun_s = perf_counter()
            results = self._sampled(logits, [chunk for chunk in ordered if chunk.is_sampled])
            self._sampling_s += perf_counter() - begun_s
            self._unread = {sequence.key: drawn.token or 0 for sequence, drawn in results}
            return lambda: results

    def _sampled(
        self, logits: torch.Tensor, chunks: Rows[Chunk]
    ) -> list[tuple[Sequence, Drawn]]:
        wanted = [draw for chunk in chunks for draw in draws(chunk, self._unread)]
        drawn = iter(self._sample(logits, wanted))
        return [
            (chunk.sequence, each)
            for chunk in chunks
            for each in in_line(chunk.guess, [next(drawn) for _ in chunk.sampled])
        ]


def draws(chunk: Chunk, unread: Mapping[int, int]) -> list[Draw]:
    """What the choice after its last token, and after each guessed one, depends on.

    ``unread``: as for :func:`server.engine.batch.build`.
    """
    sequence = chunk.sequence
    known = (unread[sequence.key],) if sequence.unread else ()
    return [sequence.draw((*known, *chunk.guess[:ahead])) for ahead in range(len(chunk.guess) + 1)]


def in_line(guess: Rows[int], drawn: Rows[Drawn]) -> Rows[Drawn]:
    """Those of ``drawn`` that follow what was drawn before them: up to the first wrong guess."""
    pairs = enumerate(zip(guess, drawn, strict=False))
    wrong = next((at for at, (guessed, each) in pairs if each.token != guessed), len(guess))
    return drawn[: wrong + 1]
