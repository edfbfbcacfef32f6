"""The bank: bounded, least recently used first, and what is in use stays."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from adapters.errors import RegistryCorrupt
from server.engine.bank import AdapterBank, BankFull
from server.engine.lora import LoadedAdapter, LoraStack
from tests.server.engine.harness import until

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Named:
    digest: str


class Loader:
    """Counts loads; fails for the digest ``bad``; waits for ``gate`` where there is one."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate: threading.Event | None = None

    def __call__(self, source: Named) -> LoadedAdapter:
        self.loaded.append(source.digest)
        if self.gate is not None:
            self.gate.wait()
        if source.digest == "bad":
            raise RegistryCorrupt("bad")
        return LoadedAdapter(source.digest, LoraStack(()))


async def use(bank: AdapterBank[Named], digest: str) -> LoadedAdapter:
    adapter = await bank.acquire(Named(digest))
    bank.release(digest)
    return adapter


async def test_an_adapter_is_loaded_once_while_it_is_resident() -> None:
    """Later requests get the same object without touching the disk."""
    loader = Loader()
    bank = AdapterBank(loader, 2)
    assert await use(bank, "a") is await use(bank, "a")
    assert loader.loaded == ["a"]


async def test_requests_at_once_share_one_load() -> None:
    """Two requests for a cold adapter wait for the same reading of its files."""
    loader = Loader()
    bank = AdapterBank(loader, 2)
    first, second = await asyncio.gather(bank.acquire(Named("a")), bank.acquire(Named("a")))
    assert first is second
    assert loader.loaded == ["a"]
    bank.release("a")
    assert bank.pinned == {"a"}
    bank.release("a")
    assert not bank.pinned


async def test_the_least_recently_used_makes_room() -> None:
    """Use, not age, decides who goes."""
    bank = AdapterBank(Loader(), 2)
    for digest in ("a", "b", "a", "c"):
        await use(bank, digest)
    assert bank.resident == ("a", "c")


async def test_what_is_in_use_is_never_evicted() -> None:
    """A pinned adapter stays though it is the oldest; with all pinned there is no room."""
    bank = AdapterBank(Loader(), 2)
    await bank.acquire(Named("a"))
    await use(bank, "b")
    await bank.acquire(Named("c"))
    assert bank.resident == ("a", "c")
    with pytest.raises(BankFull):
        await bank.acquire(Named("d"))
    assert bank.pinned == {"a", "c"}
    bank.release("a")
    await use(bank, "d")
    assert bank.resident == ("c", "d")


async def test_a_failed_load_leaves_nothing_behind() -> None:
    """Neither a pin nor an entry; the next request tries again."""
    loader = Loader()
    bank = AdapterBank(loader, 1)
    for _ in range(2):
        with pytest.raises(RegistryCorrupt):
            await bank.acquire(Named("bad"))
    assert loader.loaded == ["bad", "bad"]
    assert (bank.resident, bank.pinned) == ((), frozenset())
    await use(bank, "a")


async def test_a_request_that_gives_up_leaves_the_load_to_others() -> None:
    """Its pin is gone; the adapter arrives all the same and may be evicted."""
    loader = Loader()
    loader.gate = threading.Event()
    bank = AdapterBank(loader, 1)
    impatient = asyncio.create_task(bank.acquire(Named("a")))
    patient = asyncio.create_task(bank.acquire(Named("a")))
    await until(lambda: loader.loaded)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    loader.gate.set()
    assert (await patient).digest == "a"
    bank.release("a")
    assert (bank.resident, bank.pinned) == (("a",), frozenset())
