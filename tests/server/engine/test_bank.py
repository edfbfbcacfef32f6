"""The bank: bounded in bytes, least recently used first, and what is in use stays."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from adapters.errors import RegistryCorrupt
from server.engine.bank import AdapterBank, AdapterTooLarge
from server.engine.lora import LoadedAdapter, LoraStack
from server.engine.trial import NoNumbers
from tests.server.engine.harness import until

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Named:
    digest: str
    nbytes: int = 10


class Loader:
    """Counts loads; fails for the digest ``bad``; waits for ``gate`` where there is one.

    What it has loaded is tried; the digest ``wild`` does not pass.
    """

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.tried: list[str] = []
        self.gate: threading.Event | None = None

    def __call__(self, source: Named) -> LoadedAdapter:
        self.loaded.append(source.digest)
        if self.gate is not None:
            self.gate.wait()
        if source.digest == "bad":
            raise RegistryCorrupt("bad")
        return LoadedAdapter(source.digest, LoraStack(()))

    async def try_out(self, adapter: LoadedAdapter) -> None:
        self.tried.append(adapter.digest)
        if adapter.digest == "wild":
            raise NoNumbers


def bank_of(loader: Loader, max_bytes: int, max_count: int = 99) -> AdapterBank[Named]:
    return AdapterBank(
        loader,
        lambda source: source.nbytes,
        loader.try_out,
        max_bytes=max_bytes,
        max_count=max_count,
    )


async def use(bank: AdapterBank[Named], digest: str, nbytes: int = 10) -> LoadedAdapter:
    adapter = await bank.acquire(Named(digest, nbytes))
    bank.release(digest)
    bank.check_integrity()
    return adapter


async def test_an_adapter_is_loaded_once_while_it_is_resident() -> None:
    """Later requests get the same object without touching the disk."""
    loader = Loader()
    bank = bank_of(loader, 20)
    assert await use(bank, "a") is await use(bank, "a")
    assert loader.loaded == ["a"]


async def test_requests_at_once_share_one_load() -> None:
    """Two requests for a cold adapter wait for the same reading of its files."""
    loader = Loader()
    bank = bank_of(loader, 20)
    first, second = await asyncio.gather(bank.acquire(Named("a")), bank.acquire(Named("a")))
    assert first is second
    assert loader.loaded == ["a"]
    bank.release("a")
    assert bank.pinned == {"a"}
    bank.release("a")
    assert not bank.pinned


async def test_the_least_recently_used_makes_room() -> None:
    """Use, not age, decides who goes."""
    bank = bank_of(Loader(), 20)
    for digest in ("a", "b", "a", "c"):
        await use(bank, digest)
    assert bank.resident == ("a", "c")


async def test_bytes_are_what_is_bounded() -> None:
    """A large one makes as many small ones go as it needs, and no more."""
    bank = bank_of(Loader(), 50)
    for digest in ("a", "b", "c", "d"):
        await use(bank, digest)
    await use(bank, "large", nbytes=25)
    assert bank.resident == ("c", "d", "large")
    assert bank.nbytes == 45


async def test_the_number_is_bounded_too() -> None:
    """However small they are."""
    bank = bank_of(Loader(), 1000, max_count=2)
    for digest in ("a", "b", "c"):
        await use(bank, digest, nbytes=1)
    assert bank.resident == ("b", "c")


async def test_one_that_can_never_fit_is_refused() -> None:
    """At once, and nothing is evicted for it."""
    bank = bank_of(Loader(), 20)
    await use(bank, "a")
    with pytest.raises(AdapterTooLarge, match="21 bytes"):
        await use(bank, "huge", nbytes=21)
    assert (bank.resident, bank.pinned) == (("a",), frozenset())
    bank.check_integrity()


async def test_what_is_in_use_is_never_evicted() -> None:
    """Who needs room waits until one is released, even where that is the most recently used."""
    bank = bank_of(Loader(), 20)
    await bank.acquire(Named("a"))
    await bank.acquire(Named("b"))
    waiting = asyncio.create_task(bank.acquire(Named("c")))
    await settled()
    assert not waiting.done()
    assert bank.pinned == {"a", "b"}
    bank.release("b")
    await waiting
    assert bank.resident == ("a", "c")
    bank.check_integrity()


async def test_who_comes_later_does_not_overtake_who_waits_for_room() -> None:
    """Else a flood of requests for what is in memory would keep all others out for good."""
    bank = bank_of(Loader(), 10)
    await bank.acquire(Named("a"))
    order: list[str] = []

    async def ask(digest: str) -> None:
        await use(bank, digest)
        order.append(digest)

    tasks = [asyncio.create_task(ask(digest)) for digest in ("b", "a", "c")]
    await settled()
    assert order == []
    bank.release("a")
    await asyncio.gather(*tasks)
    assert order == ["b", "a", "c"]


async def test_who_gives_up_waiting_for_room_leaves_nothing_behind() -> None:
    """Those behind go on without it."""
    loader = Loader()
    bank = bank_of(loader, 10)
    await bank.acquire(Named("a"))
    impatient = asyncio.create_task(bank.acquire(Named("b")))
    patient = asyncio.create_task(bank.acquire(Named("c")))
    await settled()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    bank.release("a")
    assert (await patient).digest == "c"
    assert loader.loaded == ["a", "c"]
    bank.release("c")
    assert bank.pinned == frozenset()
    bank.check_integrity()


async def test_room_that_a_failed_load_leaves_is_given_to_who_waits() -> None:
    """What could not be loaded takes no bytes."""
    loader = Loader()
    loader.gate = threading.Event()
    bank = bank_of(loader, 10)
    failing = asyncio.create_task(bank.acquire(Named("bad")))
    waiting = asyncio.create_task(bank.acquire(Named("a")))
    await until(lambda: loader.loaded)
    loader.gate.set()
    with pytest.raises(RegistryCorrupt):
        await failing
    assert (await waiting).digest == "a"
    bank.check_integrity()


async def test_thousands_take_turns_in_a_few_places() -> None:
    """Bounded at every moment; each load is of what was asked for."""
    loader = Loader()
    bank = bank_of(loader, 80)
    digests = [f"{number % 1000}" for number in range(2000)]
    for start in range(0, len(digests), 8):
        found = await asyncio.gather(*(use(bank, digest) for digest in digests[start : start + 8]))
        assert [adapter.digest for adapter in found] == digests[start : start + 8]
        assert len(bank.resident) <= 8
    assert len(loader.loaded) == 2000, "none was still there after 992 others"


async def test_a_failed_load_leaves_nothing_behind() -> None:
    """Neither a pin nor an entry; the next request tries again."""
    loader = Loader()
    bank = bank_of(loader, 10)
    for _ in range(2):
        with pytest.raises(RegistryCorrupt):
            await bank.acquire(Named("bad"))
    assert loader.loaded == ["bad", "bad"]
    assert (bank.resident, bank.pinned) == ((), frozenset())
    await use(bank, "a")


async def test_an_adapter_that_does_not_pass_its_trial_is_not_kept() -> None:
    """Who waits for it is told, the others' stay, and it is loaded and tried anew by the next."""
    loader = Loader()
    bank = bank_of(loader, 20)
    await use(bank, "a")
    for _ in range(2):
        with pytest.raises(NoNumbers):
            await bank.acquire(Named("wild"))
        bank.check_integrity()
    assert await use(bank, "a")
    assert loader.tried == ["a", "wild", "wild"], "once for each time that it is loaded"
    assert (bank.resident, bank.pinned) == (("a",), frozenset())


async def test_a_request_that_gives_up_leaves_the_load_to_others() -> None:
    """Its pin is gone; the adapter arrives all the same and may be evicted."""
    loader = Loader()
    loader.gate = threading.Event()
    bank = bank_of(loader, 10)
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


def test_a_corrupt_book_is_noticed() -> None:
    """The integrity check can fail."""
    for corrupt in (
        lambda bank: bank._pins.update(["nobody"]),
        lambda bank: bank._sizes.update(a=30),
        lambda bank: bank._sizes.pop("a"),
        lambda bank: bank._resident.pop("a"),
    ):
        bank = bank_of(Loader(), 20)
        asyncio.run(use(bank, "a"))
        corrupt(bank)
        with pytest.raises(AssertionError):
            bank.check_integrity()


async def settled() -> None:
    """Let everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)
