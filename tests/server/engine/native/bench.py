"""A model on its own: what its steps compute, without an engine around it."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from pathlib import Path

import torch

from adapters.base import Base
from adapters.registry import Registry
from server.engine.batch import build, in_batch_order
from server.engine.blocks import BLOCK_TOKENS
from server.engine.config import EngineConfig
from server.engine.lora import LoadedAdapter
from server.engine.runner import Runner
from server.engine.sequence import Chunk, Sequence
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams
from tests.server.engine.harness import prompt_of


@dataclass
class Bench:
    """A runner with a cache, and sequences that are put into it block by block."""

    runner: Runner
    adapters: list[LoadedAdapter | None]
    used: int = 0
    sequences: list[Sequence] = field(default_factory=list)

    def sequence(self, length: int, seed: int, adapter: int = 0) -> Sequence:
        made = Sequence(
            key=len(self.sequences),
            tokens=list(prompt_of(length, seed=seed)),
            sampling=SamplingParams(),
            seed=0,
            max_tokens=4,
            end_tokens=frozenset(),
            reply=Reply(Detokenizer([])),
            adapter=self.adapters[adapter],
        )
        blocks = -(-length // BLOCK_TOKENS)
        made.blocks.extend(range(self.used, self.used + blocks))
        self.used += blocks
        self.sequences.append(made)
        return made

    def logits(self, chunks: Rows[Chunk]) -> dict[int, torch.Tensor]:
        """Of each sequence whose chunk is its last, by key."""
        ordered = in_batch_order(chunks)
        with torch.inference_mode():
            batch = build(ordered, self.runner._model.device)
            adapters = [chunk.sequence.adapter for chunk in ordered]
            rows = self.runner._model.forward(batch, self.runner._cache, adapters)
        last = [chunk.sequence.key for chunk in ordered if chunk.is_sampled]
        return dict(zip(last, rows, strict=True))


def bench(base: Base, registry: Path, weight_format: str, kernels: str = "native") -> Bench:
    config = EngineConfig(
        base=base, registry_root=registry, weights=weight_format, device="cpu", kernels=kernels
    )
    runner = Runner(config)
    entries = sorted(Registry(registry).snapshot().entries.values(), key=lambda entry: entry.name)
    return Bench(runner, [None, *(runner.load(entry) for entry in entries)])
