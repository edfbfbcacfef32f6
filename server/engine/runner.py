"""The tensors of one engine: a model, its cache, and the adapters that are read for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows

import torch

from adapters.entry import Entry
from server.engine.adapter import load_adapter
from server.engine.batch import in_batch_order
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.loop import Reading
from server.engine.lora import LoadedAdapter
from server.engine.memory import cache_blocks
from server.engine.model import Model, load_model
from server.engine.sequence import Chunk
from server.engine.trial import chunk_of, is_usable


class Runner:
    """Model and cache. :meth:`launch` is called by the engine thread alone.

    ``load`` makes the model; it is left out but by benchmarks.

    Raises:
        BaseInvalid: the base needs something this engine does not do.
    """

    def __init__(
        self, config: EngineConfig, load: Callable[[EngineConfig], Model] | None = None
    ) -> None:
        self._base = config.base
        self._model = (load or load_model)(config)
        self.blocks = cache_blocks(config, self._model.kv_dtype)
        self._cache = KVCache(
            config.base.architecture,
            blocks=self.blocks + 1,  # the last is for trials, so that these never need another's
            dtype=self._model.kv_dtype,
            device=self._model.device,
        )
        self._steps = self._model.steps(self._cache, config)

    @property
    def is_ahead(self) -> bool:
        """Whether a step may be launched before the one before it is read."""
        return self._steps.is_ahead

    def adapter_bytes(self, entry: Entry) -> int:
        """What :meth:`load` of this entry will take."""
        return self._model.adapter_bytes(entry.manifest.rank, entry.manifest.target_modules)

    def load(self, entry: Entry) -> LoadedAdapter:
        """Read an adapter; safe in any thread. Errors are those of ``load_adapter``."""
        dtype, device = self._model.adapter_dtype, self._model.adapter_device
        stack = load_adapter(entry, self._base, dtype=dtype, device=device)
        return LoadedAdapter(entry.digest, self._model.packed(stack, entry.manifest.rank))

    def timings(self) -> Mapping[str, float]:
        """Seconds spent so far, by kind of work; empty where nobody counts."""
        return self._steps.timings()

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        """Compute ``chunks``, whose blocks are there; see :class:`server.engine.steps.Steps`."""
        with torch.inference_mode():
            return self._steps.launch(in_batch_order(chunks))

    def is_usable(self, adapter: LoadedAdapter) -> bool:
        """Compute a few tokens with ``adapter`` alone; whether they lead to one.

        Called as :meth:`launch` is, and only while all that was launched is read.
        """
        vocabulary = self._base.architecture.vocab_size
        chunk = chunk_of(adapter, vocabulary=vocabulary, block=self.blocks)
        return is_usable((found for _, found in self.launch([chunk])()), vocabulary)
