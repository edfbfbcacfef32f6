"""Several replies to one request: admitted together, and read as they come."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence

from server.engine.errors import AdapterUnavailable, GenerationFailed
from server.engine.types import Engine, Event, Finished, Generation, GenerationRequest

_SEED_BYTES = 8
_TRIES = 3


async def admit(engine: Engine, requests: Iterable[GenerationRequest]) -> list[Generation]:
    """All of ``requests``, or none: where one is refused, those before it are aborted.

    All are of one version of their model: where it is replaced meanwhile, they begin again.

    Raises:
        EngineError: whatever :meth:`Engine.submit` refuses one with.
    """
    requests = list(requests)
    for _ in range(_TRIES):
        admitted = await _admit(engine, requests)
        if len({generation.digest for generation in admitted}) == 1:
            return admitted
        abort(admitted)
    raise AdapterUnavailable(requests[0].model, "it is being replaced again and again")


async def _admit(engine: Engine, requests: Iterable[GenerationRequest]) -> list[Generation]:
    admitted: list[Generation] = []
    try:
        for request in requests:
            admitted.append(await engine.submit(request))  # noqa: PERF401 - kept for the abort
    except BaseException:
        abort(admitted)
        raise
    return admitted


def abort(generations: Iterable[Generation]) -> None:
    """End those that still run."""
    for generation in generations:
        generation.abort()


def seed_of(seed: int | None, index: int) -> int | None:
    """The seed of choice ``index``: the request's own for the first, so that ``n`` adds to it."""
    if seed is None or not index:
        return seed
    text = f"{seed} {index}".encode()
    digest = hashlib.blake2b(text, digest_size=_SEED_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)


async def events(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Event]]:
    """What happens in each, with its index, in the order in which it happens; to the end of all.

    Raises:
        GenerationFailed: one of them broke off.
    """
    if len(generations) == 1:
        async for event in _whole(generations[0]):
            yield 0, event
        return
    arrived = asyncio.Queue[tuple[int, Event | Exception]]()

    async def read(index: int, generation: Generation) -> None:
        try:
            async for event in _whole(generation):
                arrived.put_nowait((index, event))
        except Exception as error:  # noqa: BLE001 - raised where all are read
            arrived.put_nowait((index, error))

    readers = [asyncio.create_task(read(*each)) for each in enumerate(generations)]
    try:
        left = len(generations)
        while left:
            index, item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            left -= isinstance(item, Finished)
            yield index, item
    finally:
        for reader in readers:
            reader.cancel()


async def _whole(generation: Generation) -> AsyncGenerator[Event]:
    async for event in generation:
        yield event
        if isinstance(event, Finished):
            return
    raise GenerationFailed("The engine ended the reply without saying why.")
