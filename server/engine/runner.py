"""The tensors of one engine, and how they turn a plan of chunks into tokens."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from adapters.entry import Entry
from server.engine.adapter import load_adapter
from server.engine.batch import build, in_batch_order
from server.engine.cache import KVCache, affordable_slots
from server.engine.config import EngineConfig
from server.engine.decoder import Decoder
from server.engine.lora import ActiveAdapters, LoadedAdapter
from server.engine.sampling import draw_for, sample
from server.engine.sequence import Chunk, Sequence
from server.engine.spec import read_spec
from server.engine.weights import load_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Runner:
    """Decoder, cache and active adapters. :meth:`run` is called by the engine thread alone.

    Raises:
        BaseInvalid: the base needs something this engine does not do.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._base = config.base
        self._device = torch.device(config.device_name)
        self._dtype = DTYPES[config.weight_format]
        spec = read_spec(config.base)
        weights = load_weights(config.base.path, spec, dtype=self._dtype, device=self._device)
        self._decoder = Decoder(spec, weights, context_length=config.context_length)
        self.slots = affordable_slots(
            spec.architecture, config.max_running, config.context_length, self._dtype, self._device
        )
        self._cache = KVCache(
            spec.architecture,
            slots=self.slots,
            context_length=config.context_length,
            dtype=self._dtype,
            device=self._device,
        )
        self._active = ActiveAdapters(self._device)

    def load(self, entry: Entry) -> LoadedAdapter:
        """Read an adapter; safe in any thread. Errors are those of ``load_adapter``.

        On a CPU the factors are fp32 whatever the base is: small products are faster so, and it is
        what PEFT computes with.
        """
        dtype = torch.float32 if self._device.type == "cpu" else self._dtype
        return load_adapter(entry, self._base, dtype=dtype, device=self._device)

    def run(self, chunks: Rows[Chunk]) -> list[tuple[Sequence, int | None]]:
        """Compute ``chunks``; for each that ends at the last known token, the next one.

        The token is ``None`` where the model gave no numbers.
        """
        with torch.inference_mode():
            ordered = in_batch_order(chunks)
            batch = build(ordered, dtype=self._dtype, device=self._device)
            lora = self._active.step(batch, [chunk.sequence.adapter for chunk in ordered])
            logits = self._decoder.forward(batch, self._cache, lora)
            sampled = [chunk.sequence for chunk in ordered if chunk.is_sampled]
            draws = [draw_for(sequence, self._cache.tokens) for sequence in sampled]
            return list(zip(sampled, sample(logits, draws), strict=True))
