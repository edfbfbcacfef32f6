"""A base computed by torch, operation by operation: on GPUs, and on CPUs without a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from server.engine.batch import Batch
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.decoder import Decoder
from server.engine.lora import ActiveAdapters, LoadedAdapter, LoraStack
from server.engine.sampling import sampler_for
from server.engine.spec import DecoderSpec
from server.engine.steps import PlainSteps
from server.engine.weights import load_weights


class EagerModel:
    """Decoder and active adapters.

    On a CPU the factors of adapters are fp32 whatever the base is: small products are faster so,
    and it is what PEFT computes with.

    Raises:
        BaseInvalid: a tensor is missing or misshapen, or one would be ignored.
    """

    def __init__(self, config: EngineConfig, spec: DecoderSpec) -> None:
        self.device = self.adapter_device = torch.device(config.device_name)
        dtype = compute_dtype(config)
        weights = load_weights(
            config.base.path,
            spec,
            dtype=dtype,
            device=self.device,
            weight_format=config.weight_format,
        )
        self._shape = spec.architecture
        self._decoder = Decoder(spec, weights, context_length=config.context_length)
        self._active = ActiveAdapters(self.device)
        self.adapter_dtype = torch.float32 if self.device.type == "cpu" else dtype

    @property
    def kv_dtype(self) -> torch.dtype:
        return self._decoder.dtype

    def steps(self, cache: KVCache, config: EngineConfig) -> PlainSteps:
        may_be_native = config.kernels != "torch"
        return PlainSteps(self, cache, sampler_for(self.device, may_be_native=may_be_native))

    def forward(
        self, batch: Batch, cache: KVCache, adapters: Sequence[LoadedAdapter | None]
    ) -> torch.Tensor:
        """Logits of the sampled tokens, [R, vocab] fp32; writes the others' keys and values too."""
        return self._decoder.forward(batch, cache, self._active.step(batch, adapters))

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:
        """What an adapter of this shape takes in memory."""
        widths = sum(sum(self._shape.projection_shape(target)) for target in targets)
        return self._shape.layers * rank * widths * self.adapter_dtype.itemsize

    def packed(self, stack: LoraStack, rank: int) -> LoraStack:  # noqa: ARG002 - others need it
        return stack

    def timings(self) -> Mapping[str, float]:
        return {}


def compute_dtype(config: EngineConfig) -> torch.dtype:
    """What activations are in: that of the weights, or for quantised ones what suits the device."""
    if config.weight_format == "fp32":
        return torch.float32
    if config.weight_format == "bf16" or config.device_name == "cuda":
        return torch.bfloat16
    return torch.float32
