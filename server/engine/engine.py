"""The engine of one process: loads a base, and serves it with its adapters to an event loop."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from adapters.base import Base
from adapters.conversation import Ending
from adapters.entry import Entry
from adapters.errors import AdapterError, RegistryUnreadable
from adapters.generation_config import sampling_of
from adapters.structs import prepare_structs
from server.engine.admission import Admission
from server.engine.bank import AdapterBank, AdapterTooLarge
from server.engine.blocks import BlockPool
from server.engine.bounds import refuse_out_of_range, room_for
from server.engine.catalog import Catalog
from server.engine.config import EngineConfig
from server.engine.encoder import Encoder
from server.engine.errors import (
    AdapterUnavailable,
    AdapterUnreadable,
    EngineClosed,
    GenerationFailed,
)
from server.engine.generation import LocalGeneration
from server.engine.grammar import Grammar
from server.engine.guess import Guesser
from server.engine.guidance import Guidance
from server.engine.guide import grammar_for
from server.engine.ledger import Ledger
from server.engine.loop import EngineLoop, Notice
from server.engine.lora import LoadedAdapter
from server.engine.machine import device_title
from server.engine.memory import adapter_budget
from server.engine.model import Model
from server.engine.runner import Runner
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.tokenizer import Tokenizer
from server.engine.trial import NoNumbers, Trial
from server.engine.types import (
    PRIORITIES,
    Device,
    Dialect,
    GenerationRequest,
    Load,
    ModelCard,
    Piece,
    SamplingParams,
    Shape,
)

_SEED_BITS = 63


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """What exists while the engine is started."""

    tokenizer: Tokenizer
    guidance: Guidance
    catalog: Catalog
    bank: AdapterBank[Entry]
    admission: Admission
    ledger: Ledger
    loop: EngineLoop
    scheduler: Scheduler  # here only to be asked how much it has; the loop's thread owns it
    pool: BlockPool  # likewise
    following: asyncio.Task[None]


WARM_UP = (0, 0, 0, 0)  # any tokens


class LocalEngine:
    """An :class:`server.engine.types.Engine` on a thread of this process.

    Every method runs on one event loop. ``load`` makes the model that computes; it is left out but
    by benchmarks.
    """

    def __init__(
        self, config: EngineConfig, load: Callable[[EngineConfig], Model] | None = None
    ) -> None:
        self._config = config
        self._load_model = load
        self._parts: _Parts | None = None
        self._is_closing = False
        self._encoder = Encoder()
        # Slow schemas keep each other waiting, and nothing else.
        self._compiling = ThreadPoolExecutor(1, thread_name_prefix="grammar")

    # Life

    async def start(self) -> None:
        """Load the base and begin stepping.

        Raises:
            BaseInvalid: the base cannot be served, with the reason.
        """
        tokenizer, runner = await asyncio.to_thread(self._load)
        prepare_structs()  # before adapters are read in several threads
        catalog = Catalog(
            self._config.base,
            self._config.registry_root,
            context_length=self._config.context_length,
            poll_interval_s=self._config.poll_interval_s,
            sampling=sampling_of(self._config.base.path),
        )
        await catalog.refresh()
        if self._is_closing:
            raise EngineClosed
        self._parts = self._assemble(tokenizer, runner, catalog)
        self._parts.loop.start()
        await self._warm_up()

    async def _warm_up(self) -> None:
        """Generate two tokens for no one, so that the first user does not pay for the first step.

        In it memory is touched, and the libraries choose and prepare their kernels.
        """
        sampling = SamplingParams(temperature=0.5, max_tokens=2)
        request = GenerationRequest(
            id="warm-up", model=self._config.base.name, prompt=WARM_UP, sampling=sampling
        )
        with suppress(GenerationFailed):  # the first user is told, as any later one
            async for _ in await self.submit(request):
                pass

    async def close(self) -> None:
        self._is_closing = True
        self._encoder.close()
        self._compiling.shutdown(wait=False)
        if self._parts is None:
            return
        self._parts.following.cancel()
        await asyncio.gather(self._parts.following, return_exceptions=True)
        self._parts.loop.stop()
        await asyncio.to_thread(self._parts.loop.join)
        self._parts.ledger.break_off()

    @property
    def is_ready(self) -> bool:
        return self._parts is not None and not self._is_closing and self._parts.loop.is_alive

    def check_integrity(self) -> None:
        """Assert that nothing is held that no generation needs. Only while nothing runs."""
        assert self._parts is not None
        self._parts.loop.check_integrity()
        self._parts.bank.check_integrity()
        self._parts.ledger.check_integrity()

    def timings(self) -> Mapping[str, float]:
        """Seconds that all steps so far took, by part; empty where the runner measures none."""
        return self._ready().loop.timings()

    # What is served

    @property
    def capacity(self) -> int:
        return self._config.running_limit

    @functools.cached_property
    def device(self) -> Device:
        return Device(
            kind=self._config.device_name,
            name=device_title(self._config.device_name),
            weights=self._config.weight_format,
        )

    def load(self) -> Load:
        parts = self._ready()
        running = min(parts.scheduler.running_count, len(parts.ledger))
        return Load(
            running=running,
            waiting=len(parts.ledger) - running,
            waiting_tokens=parts.admission.waiting_tokens,
            kv_blocks=parts.pool.count,
            kv_blocks_held=parts.pool.held,
            kv_blocks_cached=parts.pool.cached,
            resident=frozenset(parts.bank.resident),
        )

    def piece(self, token: int) -> Piece:
        return self._ready().tokenizer.piece(token)

    def decode(self, tokens: Rows[int]) -> str:
        return self._ready().tokenizer.decode(tokens)

    @property
    def base(self) -> Base:
        return self._config.base

    async def refresh(self) -> None:
        await self._ready().catalog.refresh()

    def models(self) -> Rows[ModelCard]:
        parts = self._ready()
        return [_shown(card, parts.bank) for card in parts.catalog.cards()]

    def model(self, name: str) -> ModelCard:
        parts = self._ready()
        return _shown(parts.catalog.card(name), parts.bank)

    # Generations

    @property
    def dialect(self) -> Dialect:
        return self._ready().tokenizer.dialect

    async def prompt(
        self,
        messages: Rows[Mapping[str, Any]],
        *,
        tools: Rows[Mapping[str, Any]] = (),
        thinks: bool = False,
        ending: Ending = "reply",
        must_fit: bool = True,
    ) -> tuple[int, ...]:
        encode = functools.partial(
            self._ready().tokenizer.prompt,
            messages,
            tools=tools,
            thinks=thinks,
            ending=ending,
            most_tokens=self._config.context_length if must_fit else None,
        )
        return await self._encoder.run(len(msgspec.json.encode((messages, tools))), encode)

    async def encode(
        self, text: str, *, parse_special: bool = False, must_fit: bool = True
    ) -> tuple[int, ...]:
        encode = functools.partial(
            self._ready().tokenizer.encode,
            text,
            parse_special=parse_special,
            most_tokens=self._config.context_length if must_fit else None,
        )
        return await self._encoder.run(len(text.encode(errors="replace")), encode)

    async def grammar(self, shape: Shape) -> Callable[[], Grammar]:
        compile_ = self._ready().guidance.of_shape
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._compiling, compile_, shape)

    async def submit(self, request: GenerationRequest) -> LocalGeneration:
        """Admit a request; its adapter is loaded, and has been tried alone, before this returns.

        Where all adapters in memory are in use, that includes waiting until one is not.

        Raises:
            UnknownModel, AdapterUnavailable, AdapterUnreadable, PromptInvalid, PromptTooLong,
            SamplingInvalid, QueueFull, EngineClosed
            ValueError: the priority is out of range.
        """
        parts = self._ready()
        vocabulary = self._config.base.architecture.vocab_size
        refuse_out_of_range(request.sampling, vocabulary)
        if request.priority not in PRIORITIES:
            raise ValueError(f"out of range: priority={request.priority}")
        entry = await parts.catalog.find(request.model)
        self._ready()  # it may have been closed meanwhile
        max_tokens = room_for(request, self._config.context_length, vocabulary)
        grammar = grammar_for(request.sampling)
        parts.admission.enter(request.waiting_tokens)
        try:
            adapter = None if entry is None else await self._acquire(parts, entry)
        except BaseException:
            parts.admission.begin(request.waiting_tokens)
            parts.admission.leave()
            raise
        return self._open_generation(parts, request, max_tokens, adapter, grammar)

    async def _acquire(self, parts: _Parts, entry: Entry) -> LoadedAdapter:
        try:
            adapter = await parts.bank.acquire(entry)
        except AdapterTooLarge as error:
            reason = f"{error}; raise adapter_cache_bytes"
            raise AdapterUnavailable(entry.name, reason) from error
        except RegistryUnreadable as error:  # the machine's trouble, which may be over any moment
            raise AdapterUnreadable(entry.name, str(error)) from error
        except AdapterError as error:
            parts.catalog.mark_failed(entry, str(error))
            raise AdapterUnavailable(entry.name, str(error)) from error
        if not self.is_ready:  # closed while the adapter was loaded
            parts.bank.release(adapter.digest)
            raise EngineClosed
        return adapter

    async def _try_out(self, adapter: LoadedAdapter) -> None:
        """Have the engine's thread compute a few tokens with a new ``adapter``, and nobody else's.

        Raises:
            NoNumbers: nothing can be drawn from what comes out.
            GenerationFailed: it could not be computed.
            EngineClosed
        """
        trial = Trial(adapter)
        self._ready().loop.try_out(trial)
        if not await asyncio.wrap_future(trial.is_usable):
            raise NoNumbers

    def _open_generation(
        self,
        parts: _Parts,
        request: GenerationRequest,
        max_tokens: int,
        adapter: LoadedAdapter | None,
        grammar: Grammar | None,
    ) -> LocalGeneration:
        digest = None if adapter is None else adapter.digest
        key, mailbox = parts.ledger.add(digest, request.waiting_tokens)
        sampling, seed = request.sampling, request.sampling.seed
        sequence = Sequence(
            key=key,
            tokens=list(request.prompt),
            sampling=sampling,
            seed=secrets.randbits(_SEED_BITS) if seed is None else seed,
            max_tokens=max_tokens,
            end_tokens=parts.tokenizer.end_tokens,
            reply=parts.tokenizer.reply(
                sampling.stop,
                min_tokens=sampling.min_tokens,
                thought=sampling.thought,
                continues_text=request.continues_text,
            ),
            adapter=adapter,
            grammar=grammar,
            guesser=None if grammar else self._guesser(),
            priority=request.priority,
        )
        parts.loop.submit(sequence)
        return LocalGeneration(
            request.id,
            digest or self._config.base.ref.weights_sha256,
            mailbox,
            functools.partial(parts.loop.abort, key),
        )

    def _guesser(self) -> Guesser | None:
        longest = self._config.speculative_tokens
        return Guesser(longest) if longest else None

    def _ready(self) -> _Parts:
        if self._parts is None or not self.is_ready:
            raise EngineClosed
        return self._parts

    # Between the threads

    def _load(self) -> tuple[Tokenizer, Runner]:
        return Tokenizer(self._config.base), Runner(self._config, self._load_model)

    def _assemble(self, tokenizer: Tokenizer, runner: Runner, catalog: Catalog) -> _Parts:
        config = self._config
        pool = BlockPool(runner.blocks)
        scheduler = Scheduler(
            max_running=config.running_limit,
            prefill_tokens=config.prefill_tokens,
            pool=pool,
            reuses_prefixes=config.prefix_cache,
            guessed_tokens=config.speculative_tokens,
        )
        bank = AdapterBank(
            runner.load,
            runner.adapter_bytes,
            self._try_out,
            max_bytes=adapter_budget(config),
            max_count=config.max_resident_adapters,
        )
        admission = Admission(
            max_running=config.running_limit,
            max_waiting=config.waiting_limit,
            max_waiting_tokens=config.waiting_token_limit,
        )
        ledger = Ledger(admission, bank)
        hand_over = functools.partial(_hand_over, asyncio.get_running_loop())
        return _Parts(
            tokenizer=tokenizer,
            guidance=tokenizer.guidance(config.base.architecture.vocab_size),
            catalog=catalog,
            bank=bank,
            admission=admission,
            ledger=ledger,
            loop=EngineLoop(
                scheduler,
                runner,
                deliver=functools.partial(hand_over, ledger.receive),
                ended=functools.partial(hand_over, ledger.break_off),
            ),
            scheduler=scheduler,
            pool=pool,
            following=asyncio.create_task(catalog.follow()),
        )


def _shown(card: ModelCard, bank: AdapterBank[Entry]) -> ModelCard:
    """The card, with what the catalogue cannot know: whether the adapter is being loaded."""
    is_loading = card.state == "ready" and card.digest in bank.loading
    return replace(card, state="loading") if is_loading else card


def _hand_over(
    loop: asyncio.AbstractEventLoop, receive: Callable[..., None], *news: Rows[Notice]
) -> None:
    """Call ``receive`` on the event loop. Where that is closed, nobody is left to be told."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(receive, *news)
