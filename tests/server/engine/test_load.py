"""What a real engine tells of itself while it works, and afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.base import Base
from tests.server.engine.harness import prompt_of, read, running

pytestmark = pytest.mark.anyio


async def test_the_load_is_that_of_the_moment(base: Base, registries: dict[str, Path]) -> None:
    """Who runs and waits, blocks in use and remembered, and which adapters are in memory."""
    async with running(base, registries["qwen3"], max_running=1) as engine:
        local = engine.engine
        throttle = engine.throttle()
        first = await engine.submit("full", prompt_of(40))
        second = await engine.submit(base.name, prompt_of(30))
        await throttle.planned()
        busy = local.load()
        throttle.open()
        await read(first)
        await read(second)
        idle = local.load()

        assert (busy.running, busy.waiting, busy.waiting_tokens) == (1, 1, 70)
        assert (idle.running, idle.waiting, idle.waiting_tokens) == (0, 0, 0)
        assert (busy.kv_blocks_held, idle.kv_blocks_held) == (3, 0)
        assert idle.kv_blocks_cached > 0
        assert busy.kv_blocks == idle.kv_blocks > idle.kv_blocks_cached
        assert idle.resident == {local.model("full").digest}
