"""Which adapters are in memory: the recently used, up to a bound, and always those in use.

Lives on the event loop; only the reading of files happens in a thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from server.engine.lora import LoadedAdapter


class Source(Protocol):
    """What can be loaded; a registry entry is one."""

    @property
    def digest(self) -> str: ...


SourceT = TypeVar("SourceT", bound=Source)


class AdapterTooLarge(Exception):
    """One adapter needs more than all may have. Becomes ``AdapterUnavailable``."""


class AdapterBank(Generic[SourceT]):
    """At most ``max_count`` adapters of ``max_bytes``, by content digest.

    The least recently used goes first. ``size_of`` tells how many bytes a source will take, before
    it is loaded. ``load`` is called in a thread, and ``try_out`` awaited with what it returns; both
    may raise. Who waits for that adapter gets the error, and the next :meth:`acquire` tries again.

    Who needs room while everything is in use waits for it, and whoever comes later waits behind:
    so it waits for the generations that are open now, and never for new ones.
    """

    def __init__(
        self,
        load: Callable[[SourceT], LoadedAdapter],
        size_of: Callable[[SourceT], int],
        try_out: Callable[[LoadedAdapter], Awaitable[None]],
        *,
        max_bytes: int,
        max_count: int,
    ) -> None:
        self._load = load
        self._size_of = size_of
        self._try_out = try_out
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._resident: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedAdapter]] = {}
        self._sizes: dict[str, int] = {}  # of the resident and the loading
        self._pins: Counter[str] = Counter()
        self._entrance = asyncio.Lock()  # first come, first served
        self._changed = asyncio.Event()

    @property
    def resident(self) -> tuple[str, ...]:
        """Digests, the least recently used first."""
        return tuple(self._resident)

    @property
    def loading(self) -> frozenset[str]:
        """Digests of the adapters that are being read and tried."""
        return frozenset(self._loading)

    @property
    def pinned(self) -> frozenset[str]:
        """Digests of the adapters in use."""
        return frozenset(self._pins)

    @property
    def nbytes(self) -> int:
        """What resident and loading adapters take together."""
        return sum(self._sizes.values())

    async def acquire(self, source: SourceT) -> LoadedAdapter:
        """Return the adapter, loaded and tried if need be, and keep it until :meth:`release`.

        Raises:
            AdapterTooLarge: it would not fit if it were the only one.
        """
        async with self._entrance:
            if source.digest not in self._sizes:
                await self._begin_loading(source)
            self._pins[source.digest] += 1
        try:
            return await self._ready(source.digest)
        except BaseException:
            self.release(source.digest)
            raise

    def release(self, digest: str) -> None:
        """Undo one :meth:`acquire`."""
        self._pins[digest] -= 1
        if not self._pins[digest]:
            del self._pins[digest]
            self._changed.set()

    async def _ready(self, digest: str) -> LoadedAdapter:
        if digest in self._resident:
            self._resident.move_to_end(digest)
            return self._resident[digest]
        return await asyncio.shield(self._loading[digest])

    async def _begin_loading(self, source: SourceT) -> None:
        size = self._size_of(source)
        if size > self._max_bytes:
            raise AdapterTooLarge(f"it takes {size:,} bytes, all may take {self._max_bytes:,}")
        while not self._has_room(size):
            self._changed.clear()
            await self._changed.wait()
        self._sizes[source.digest] = size
        task = asyncio.create_task(self._fetch(source))
        task.add_done_callback(_retrieve)
        self._loading[source.digest] = task

    async def _fetch(self, source: SourceT) -> LoadedAdapter:
        try:
            adapter = await asyncio.to_thread(self._load, source)
            await self._try_out(adapter)
            self._resident[source.digest] = adapter
        except BaseException:
            del self._sizes[source.digest]
            raise
        finally:
            del self._loading[source.digest]
            self._changed.set()
        return adapter

    def _has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes fit, once those that nobody uses have gone as need be."""
        while self.nbytes + size > self._max_bytes or len(self._sizes) >= self._max_count:
            victim = next((digest for digest in self._resident if digest not in self._pins), None)
            if victim is None:
                return False
            del self._resident[victim], self._sizes[victim]
        return True

    def check_integrity(self) -> None:
        """Assert that what is counted is there, and within the bounds."""
        assert self._sizes.keys() == self._resident.keys() | self._loading.keys(), "sizes of others"
        assert not self._resident.keys() & self._loading.keys(), "loaded twice"
        assert self._pins.keys() <= self._sizes.keys(), "an adapter in use is not in memory"
        assert all(count > 0 for count in self._pins.values()), "released more than acquired"
        assert self.nbytes <= self._max_bytes, "more bytes than may be"
        assert len(self._sizes) <= self._max_count, "more adapters than may be"


def _retrieve(task: asyncio.Task[LoadedAdapter]) -> None:
    """Mark an error as seen, for the case that everyone who waited has gone."""
    if not task.cancelled():
        task.exception()
