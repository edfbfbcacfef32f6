"""A loaded base as the runner sees it, and the choice of who computes it on this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import torch

from adapters.errors import BaseInvalid
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.eager import EagerModel
from server.engine.lora import Factors, LoraStack
from server.engine.spec import DecoderSpec, read_spec
from server.engine.steps import Steps

logger = logging.getLogger(__name__)

# From here on Triton has products on a GPU's matrix units; before it takes minutes to compile one.
KERNEL_CAPABILITY = (8, 0)


class Model(Protocol):
    """Computes steps; the cache is the caller's.

    ``adapter_dtype`` is the type that adapters are read in; ``adapter_device`` is where
    :meth:`packed` wants the factors.
    """

    device: torch.device
    adapter_dtype: torch.dtype
    adapter_device: torch.device

    @property
    def kv_dtype(self) -> torch.dtype: ...

    def steps(self, cache: KVCache, config: EngineConfig) -> Steps:
        """What computes steps over ``cache``."""

    def adapter_bytes(self, rank: int, targets: Sequence[str]) -> int:
        """What an adapter of this shape takes in memory."""

    def packed(self, stack: LoraStack, rank: int) -> Factors:
        """An adapter's factors in the form that steps want."""


def load_model(config: EngineConfig) -> Model:
    """The base of ``config`` in memory.

    Raises:
        BaseInvalid: it needs something this engine does not do, or native kernels were asked for
            and cannot be had.
    """
    spec = read_spec(config.base)
    if config.kernels == "torch":
        return EagerModel(config, spec)
    return _native(config, spec) or _cuda(config, spec) or EagerModel(config, spec)


def _cuda(config: EngineConfig, spec: DecoderSpec) -> Model | None:
    if config.device_name != "cuda":
        return None
    if find_spec("triton") is None:
        logger.warning("Triton is not installed: replies will come much more slowly.")
        return None
    capability = torch.cuda.get_device_capability()
    if capability < KERNEL_CAPABILITY:
        logger.warning(
            "Kernels are for GPUs of compute capability 8.0 and more, and this one has %d.%d: "
            "replies will come much more slowly.",
            *capability,
        )
        return None
    from server.engine.cuda import kernels
    from server.engine.cuda.model import CudaModel, is_supported

    if not is_supported(spec):
        logger.warning("No kernels for heads of %d dimensions.", spec.architecture.head_dim)
        return None
    return CudaModel(config, spec, kernels)


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
