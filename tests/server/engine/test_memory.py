"""What the machine's memory affords."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.base import Base
from server.engine import memory
from server.engine.config import EngineConfig
from server.engine.memory import (
    CPU_ADAPTER_SHARE,
    CPU_SHARE,
    MemoryTooSmall,
    adapter_budget,
    cache_blocks,
    usable_bytes,
)

# Of the tiny base: keys and values, 2 layers, 2 heads of 32 numbers in fp32.
PER_BLOCK = 2 * 2 * 2 * 32 * 4 * 16


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Sets the machine's memory; no container limits it unless ``limit`` says so."""
    files = (tmp_path / "v2", tmp_path / "v1")
    monkeypatch.setattr(memory, "LIMIT_FILES", files)

    def set_up(total: int, limit: str | None = None) -> None:
        monkeypatch.setattr(
            memory.psutil, "virtual_memory", lambda: SimpleNamespace(total=total, available=total)
        )
        if limit is not None:
            files[0].write_text(f"{limit}\n")

    return set_up


def config(base: Base, **values: Any) -> EngineConfig:
    return EngineConfig(base=base, registry_root=Path("nowhere"), device="cpu", **values)


def test_all_that_run_may_fill_their_context_where_memory_is_large(
    base: Base, machine: Any
) -> None:
    """Four conversations of 512 tokens are 128 blocks."""
    machine(1 << 40)
    assert cache_blocks(config(base, max_running=4), torch.float32) == 128


def test_a_share_of_a_smaller_memory_bounds_the_cache(base: Base, machine: Any) -> None:
    """In half the format there is room for twice as many."""
    machine(int(50 * PER_BLOCK / CPU_SHARE) + 1)
    assert cache_blocks(config(base), torch.float32) == 50
    assert cache_blocks(config(base), torch.bfloat16) == 100


def test_less_than_one_conversation_is_refused_by_name(base: Base, machine: Any) -> None:
    """The text says how much is needed, how much there is, and what to set."""
    machine(int(31 * PER_BLOCK / CPU_SHARE))
    with pytest.raises(MemoryTooSmall, match=f"{32 * PER_BLOCK:,} bytes.*max_context"):
        cache_blocks(config(base), torch.float32)
    assert cache_blocks(config(base, max_context=400), torch.float32) == 31


def test_what_is_asked_for_is_given(base: Base, machine: Any) -> None:
    """Rounded up to whole blocks, whatever the machine has."""
    machine(1)
    assert cache_blocks(config(base, kv_cache_tokens=513), torch.float32) == 33
    assert adapter_budget(config(base, adapter_cache_bytes=5)) == 5


@pytest.mark.parametrize(("limit", "usable"), [(None, 1000), ("max", 1000), ("300", 300)])
def test_a_container_has_what_it_is_allowed(
    limit: str | None, usable: int, base: Base, machine: Any
) -> None:
    """The smaller of the machine's memory and the limit, if there is one."""
    machine(1000, limit)
    assert usable_bytes(config(base)) == usable
    assert adapter_budget(config(base)) == int(usable * CPU_ADAPTER_SHARE)
