"""A loaded base as the runner sees it, and the choice of who computes it on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from adapters.errors import BaseInvalid
from server.engine.batch import Batch
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.eager import EagerModel
from server.engine.lora import LoadedAdapter, LoraStack
from server.engine.native.adapter import PackedStack
from server.engine.spec import DecoderSpec, read_spec


class Model(Protocol):
    """Tokens in, logits out; the cache is the caller's.

    ``adapter_dtype`` is the type that adapters are kept in.
    """

    device: torch.device
    adapter_dtype: torch.dtype

    @property
    def kv_dtype(self) -> torch.dtype: ...

    def forward(
        self, batch: Batch, cache: KVCache, adapters: Sequence[LoadedAdapter | None]
    ) -> torch.Tensor:
        """Logits of the sampled tokens, [R, vocab] fp32; writes the others' keys and values too.

        ``adapters``: one a chunk.
        """

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:
        """What an adapter of this shape takes in memory."""

    def packed(self, stack: LoraStack, rank: int) -> LoraStack | PackedStack:
        """An adapter's factors in the form that :meth:`forward` wants."""

    def timings(self) -> Mapping[str, float]:
        """Seconds spent so far, by kind of work; empty where nobody counts."""


def load_model(config: EngineConfig) -> Model:
    """The base of ``config`` in memory.

    Raises:
        BaseInvalid: it needs something this engine does not do, or native kernels were asked for
            and cannot be had.
    """
    spec = read_spec(config.base)
    native = None if config.kernels == "torch" else _native(config, spec)
    return native or EagerModel(config, spec)


def _native(config: EngineConfig, spec: DecoderSpec) -> Model | None:
    from server.engine.native.build import library
    from server.engine.native.model import NativeModel, is_supported

    if config.device_name != "cpu":
        reason = "they are for CPUs"
    elif not is_supported(spec):
        reason = f"heads of {spec.architecture.head_dim} dimensions are not supported"
    elif (loaded := library()) is None:
        reason = "they could not be compiled; the log says why"
    else:
        return NativeModel(
            loaded,
            config.base.path,
            spec,
            config.weight_format,
            context_length=config.context_length,
        )
    if config.kernels == "native":
        raise BaseInvalid(f"Native kernels were asked for, but {reason}.")
    return None
