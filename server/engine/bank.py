"""Which adapters are in memory: the recently used, up to a bound, and always those in use.

Lives on the event loop; only the reading of files happens in a thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from server.engine.lora import LoadedAdapter


class Source(Protocol):
    """What can be loaded; a registry entry is one."""

    @property
    def digest(self) -> str: ...


SourceT = TypeVar("SourceT", bound=Source)


class BankFull(Exception):
    """Every resident adapter is in use. Becomes :class:`server.engine.errors.QueueFull`."""


class AdapterBank(Generic[SourceT]):
    """At most ``capacity`` adapters, by content digest; the least recently used goes first.

    ``load`` is called in a thread and may raise; who waits for that adapter gets the error, and
    the next :meth:`acquire` tries again.
    """

    def __init__(self, load: Callable[[SourceT], LoadedAdapter], capacity: int) -> None:
        self._load = load
        self._capacity = capacity
        self._resident: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedAdapter]] = {}
        self._pins: Counter[str] = Counter()

    @property
    def resident(self) -> tuple[str, ...]:
        """Digests, the least recently used first."""
        return tuple(self._resident)

    @property
    def pinned(self) -> frozenset[str]:
        """Digests of the adapters in use."""
        return frozenset(self._pins)

    async def acquire(self, source: SourceT) -> LoadedAdapter:
        """Return the adapter, loaded if need be, and keep it until :meth:`release`.

        Raises:
            BankFull: there is no room, and nothing that may be evicted.
        """
        digest = source.digest
        self._pins[digest] += 1
        try:
            if digest in self._resident:
                self._resident.move_to_end(digest)
                return self._resident[digest]
            if digest not in self._loading:
                self._make_room()
                task = asyncio.create_task(self._fetch(source))
                task.add_done_callback(_retrieve)
                self._loading[digest] = task
            return await asyncio.shield(self._loading[digest])
        except BaseException:
            self.release(digest)
            raise

    def release(self, digest: str) -> None:
        """Undo one :meth:`acquire`."""
        self._pins[digest] -= 1
        if not self._pins[digest]:
            del self._pins[digest]

    async def _fetch(self, source: SourceT) -> LoadedAdapter:
        try:
            adapter = await asyncio.to_thread(self._load, source)
        finally:
            del self._loading[source.digest]
        self._resident[source.digest] = adapter
        return adapter

    def _make_room(self) -> None:
        while len(self._resident) + len(self._loading) >= self._capacity:
            victim = next((digest for digest in self._resident if digest not in self._pins), None)
            if victim is None:
                raise BankFull
            del self._resident[victim]


def _retrieve(task: asyncio.Task[LoadedAdapter]) -> None:
    """Mark an error as seen, for the case that everyone who waited has gone."""
    if not task.cancelled():
        task.exception()
