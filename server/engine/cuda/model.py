"""A base on a GPU, computed by Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.cuda.adapter import FlatStack, Layout, flat_stack
from server.engine.cuda.decoder import TileDecoder
from server.engine.cuda.step import Kernels
from server.engine.cuda.steps import CudaSteps
from server.engine.eager import compute_dtype
from server.engine.lora import LoraStack
from server.engine.spec import DecoderSpec
from server.engine.weights import load_weights

HEAD_DIMS = (16, 32, 64, 128, 256)


def is_supported(spec: DecoderSpec) -> bool:
    """Whether the kernels can do this shape."""
    return spec.architecture.head_dim in HEAD_DIMS


class CudaModel:
    """The base of ``config`` on its device, computed by ``kernels``.

    Raises:
        BaseInvalid: a tensor is missing or misshapen, or one would be ignored.
    """

    def __init__(self, config: EngineConfig, spec: DecoderSpec, kernels: Kernels) -> None:
        self._kernels = kernels
        self.device = torch.device(config.device_name)
        self.adapter_device = torch.device("cpu")
        self.adapter_dtype = self.kv_dtype = compute_dtype(config)
        self._layout = Layout(spec.architecture)
        weights = load_weights(
            config.base.path,
            spec,
            dtype=self.kv_dtype,
            device=self.device,
            weight_format=config.weight_format,
        )
        self._decoder = TileDecoder(
            spec, weights, self._layout, kernels, context_length=config.context_length
        )

    def steps(self, cache: KVCache, config: EngineConfig) -> CudaSteps:
        return CudaSteps(self._decoder, self._kernels, cache, config)

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:  # noqa: ARG002 - all have room
        """What an adapter of this shape takes in memory."""
        return rank * self._layout.size * self.adapter_dtype.itemsize

    def packed(self, stack: LoraStack, rank: int) -> FlatStack:
        return flat_stack(stack, self._layout, rank, self.device)
