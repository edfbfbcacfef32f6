"""What follows from the settings on a machine."""

from __future__ import annotations

import ctypes
from pathlib import Path

import msgspec
import pytest

from adapters.base import Base
from server.engine.config import EngineConfig

QWEN3_06B = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "layers": 28,
    "heads": 16,
    "kv_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "context_length": 40_960,
}


def shaped(base: Base, **shape: int) -> Base:
    architecture = msgspec.structs.replace(base.architecture, **shape)
    return msgspec.structs.replace(base, architecture=architecture)


def config(base: Base, **values: object) -> EngineConfig:
    return EngineConfig(base=base, registry_root=Path("nowhere"), **values)


def test_the_format_follows_size_and_machine(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, fp32 for small bases; for others int8, or with torch alone what it is good at."""
    large = shaped(base, **QWEN3_06B)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("server.engine.native.build.library", lambda: None)
    assert config(large, device="cpu").weight_format == "fp32"
    assert config(large, device="cpu", weights="bf16").weight_format == "bf16"
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    assert config(base, device="cpu").weight_format == "fp32"
    assert config(large, device="cpu").weight_format == "bf16"
    assert config(base, device="cuda").weight_format == "bf16"
    assert config(large, device="cpu", weights="fp32").weight_format == "fp32"
    monkeypatch.setattr("server.engine.native.build.library", lambda: ctypes.CDLL(None))
    assert config(large, device="cpu").weight_format == "int8"
    assert config(base, device="cpu").weight_format == "fp32"
    assert config(large, device="cpu", kernels="torch").weight_format == "bf16"


def test_the_context_is_the_models_up_to_a_default_or_what_is_asked(base: Base) -> None:
    """Never more than the model has."""
    large = shaped(base, **QWEN3_06B)
    assert config(base).context_length == 512
    assert config(large).context_length == 4096
    assert config(large, max_context=9000).context_length == 9000
    assert config(base, max_context=9000).context_length == 512


def test_a_gpu_takes_longer_pieces_of_prompts(base: Base) -> None:
    """It hardly notices 256 tokens; what is asked for goes before."""
    assert config(base, device="cpu").prefill_tokens == 256
    assert config(base, device="cuda").prefill_tokens == 2048
    assert config(base, device="cuda", prefill_chunk_tokens=7).prefill_tokens == 7


def test_a_gpu_runs_more_at_once(base: Base) -> None:
    """And four times as many may wait; what is asked for goes before."""
    on_cpu, on_gpu = config(base, device="cpu"), config(base, device="cuda")
    asked = config(base, device="cuda", max_running=5, max_waiting=0)

    assert (on_cpu.running_limit, on_cpu.waiting_limit) == (16, 64)
    assert (on_gpu.running_limit, on_gpu.waiting_limit) == (256, 1024)
    assert (asked.running_limit, asked.waiting_limit) == (5, 0)


def test_the_tokens_that_may_wait_follow_from_what_may_be_open(base: Base) -> None:
    """A quarter of every open request's context, unless it is said."""
    assert config(base, max_running=3, max_waiting=5).waiting_token_limit == 8 * 512 // 4
    assert config(base, max_waiting_tokens=7).waiting_token_limit == 7


@pytest.mark.parametrize(
    "values",
    [
        {"max_running": 0},
        {"max_waiting": -1},
        {"prefill_chunk_tokens": 0},
        {"max_resident_adapters": 0},
        {"max_waiting_tokens": 0},
        {"adapter_cache_bytes": 0},
        {"kv_cache_tokens": 511},
        {"max_context": 1},
        {"poll_interval_s": 0.0},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(values: dict[str, int], base: Base) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=next(iter(values))):
        config(base, **values)
