"""The settings of one engine, and what follows from them on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.base import Base

WeightFormat = Literal["fp32", "bf16", "int8", "nf4"]
Kernels = Literal["auto", "native", "torch"]
DeviceName = Literal["cpu", "cuda"]

# Up to here a base is computed in fp32 on a CPU: quantising it would save little.
SMALL_BASE_BYTES = 400_000_000
DEFAULT_CONTEXT = 4096
RUNNING: dict[DeviceName, int] = {"cpu": 16, "cuda": 256}
LEAST_WAITING, WAITING_FOR_EACH = 64, 4
PREFILL_TOKENS: dict[DeviceName, int] = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How one engine runs. Counts are sequences, tokens or adapters as their names say.

    ``weights`` and ``device`` may be left to the machine with ``"auto"``; :attr:`weight_format`
    and :attr:`device_name` hold the decision. ``kernels`` chooses what computes on a CPU: compiled
    ones where they can be had (``"auto"``), else an error (``"native"``), or torch.
    ``prefill_chunk_tokens`` bounds how many prompt tokens one step computes, and so how long
    running replies wait for a new prompt.

    ``speculative_tokens`` are how many tokens a step may guess, over all replies; 0 guesses none.

    ``max_running`` and ``max_waiting`` are left to the device with ``None``.
    ``max_waiting_tokens`` bounds the prompts that are not yet computed, besides their number;
    ``None`` takes a quarter of what all open ones could have.
    ``kv_cache_tokens`` is what all running sequences and the cached prefixes may hold together;
    ``adapter_cache_bytes`` what the factors of all adapters in memory may take. ``None`` takes a
    share of the machine's memory (:mod:`server.engine.memory`).

    Raises:
        ValueError: a number is out of range, naming the field.
    """

    base: Base
    registry_root: Path
    weights: Literal["auto"] | WeightFormat = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    kernels: Kernels = "auto"
    max_running: int | None = None
    max_waiting: int | None = None
    max_waiting_tokens: int | None = None
    max_context: int | None = None
    prefill_chunk_tokens: int | None = None
    kv_cache_tokens: int | None = None
    prefix_cache: bool = True
    speculative_tokens: int = 0
    max_resident_adapters: int = 256
    adapter_cache_bytes: int | None = None
    poll_interval_s: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (
            ("max_running", 1),
            ("max_waiting", 0),
            ("speculative_tokens", 0),
            ("prefill_chunk_tokens", 1),
            ("max_waiting_tokens", 1),
            ("max_resident_adapters", 1),
            ("adapter_cache_bytes", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}")
        if self.max_context is not None and self.max_context < 2:  # noqa: PLR2004 - prompt and reply
            raise ValueError("max_context must be at least 2: one token of prompt, one of reply")
        if self.kv_cache_tokens is not None and self.kv_cache_tokens < self.context_length:
            raise ValueError(
                f"kv_cache_tokens must be at least {self.context_length}, the context's length"
            )
        if self.poll_interval_s <= 0:
            raise ValueError("poll_interval_s must be positive")

    @property
    def context_length(self) -> int:
        """Tokens that prompt and reply may have together."""
        return min(self.max_context or DEFAULT_CONTEXT, self.base.architecture.context_length)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens of one step: as asked, else what suits the device."""
        return self.prefill_chunk_tokens or PREFILL_TOKENS[self.device_name]

    @property
    def running_limit(self) -> int:
        """Sequences that may run together: as asked, else what suits the device."""
        return self.max_running or RUNNING[self.device_name]

    @property
    def waiting_limit(self) -> int:
        """Sequences that may wait: as asked, else some for each that runs."""
        if self.max_waiting is None:
            return max(LEAST_WAITING, WAITING_FOR_EACH * self.running_limit)
        return self.max_waiting

    @property
    def max_open(self) -> int:
        """Sequences that may run and wait together."""
        return self.running_limit + self.waiting_limit

    @property
    def waiting_token_limit(self) -> int:
        """Tokens that the prompts which are not yet computed may have together."""
        return self.max_waiting_tokens or max(1, self.max_open * self.context_length // 4)

    @property
    def device_name(self) -> DeviceName:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def weight_format(self) -> WeightFormat:
        """As asked; else the quickest that stays true to the checkpoint (BENCHMARKS.md, CPUs)."""
        if self.weights != "auto":
            return self.weights
        if self.device_name == "cuda":
            return "bf16"
        if 4 * self.base.architecture.parameters <= SMALL_BASE_BYTES:
            return "fp32"
        if self.has_native_kernels:
            return "int8"
        return "bf16" if has_fast_bf16() else "fp32"

    @property
    def has_native_kernels(self) -> bool:
        """Whether this engine may compute with compiled kernels; the first to ask compiles them."""
        if self.kernels == "torch" or self.device_name != "cpu":
            return False
        from server.engine.native.build import library

        return library() is not None


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32; without AVX-512 it is emulated."""
    import torch

    return "AVX512" in torch.backends.cpu.get_cpu_capability()
