"""Several replies to one request: how many, admitted together, and read as they come."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace

from server.engine.errors import AdapterUnavailable, GenerationFailed
from server.engine.types import (
    Engine,
    Event,
    Finished,
    Generation,
    GenerationRequest,
    ModelCard,
    SamplingParams,
)
from server.wire.errors import InvalidRequest
from server.wire.parameters import Parameters

_SEED_BYTES = 8
_TRIES = 3
NO_END = "The engine ended the reply without saying why."


def choices_of(asked: Parameters, engine: Engine, prompts: int = 1) -> int:
    """How many replies to make to each of ``prompts``.

    Raises:
        InvalidRequest: more than run together, so that one client could keep all others out.
    """
    choices = asked.n or 1
    if choices * prompts > engine.capacity:
        most = f"this server makes at most {engine.capacity} replies to a request"
        if prompts > 1:
            raise InvalidRequest(f"prompt: {prompts} with {choices} each, but {most}.", "prompt")
        raise InvalidRequest(f"n: {most}.", "n")
    return choices


def requests_for(
    id: str,  # noqa: A002 - the wire's name
    card: ModelCard,
    prompts: Sequence[tuple[tuple[int, ...], SamplingParams]],
    choices: int,
    *,
    priority: int | None,
    continues_text: bool,
) -> list[GenerationRequest]:
    """One request for each choice of each prompt, in order; the first is called ``id``.

    ``priority`` is the wire's, where the lower goes first; in the engine the higher does.
    """
    each = [(prompt, how, choice) for prompt, how in prompts for choice in range(choices)]
    return [
        GenerationRequest(
            id=f"{id}-{number}" if number else id,
            model=card.name,
            prompt=prompt,
            sampling=replace(how, seed=seed_of(how.seed, choice)),
            priority=-(priority or 0),
            is_repeat=choice > 0 and how.prompt_logprobs is None,
            continues_text=continues_text,
        )
        for number, (prompt, how, choice) in enumerate(each)
    ]


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
        async for event in generations[0]:  # not by _whole: a generator less for every token
            yield 0, event
            if isinstance(event, Finished):
                return
        raise GenerationFailed(NO_END)
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
    raise GenerationFailed(NO_END)
