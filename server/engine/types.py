"""The values that cross the engine's seam, and the seam itself.

A caller awaits :meth:`Engine.submit`; everything that can be refused is refused there, before a
stream exists. The returned :class:`Generation` is then iterated for events, and ends with exactly
one :class:`Finished` or with :class:`server.engine.errors.GenerationFailed` raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from adapters.base import Base
from adapters.conversation import Ending
from adapters.manifest import SamplingDefaults
from server.engine.grammar import Grammar

FinishReason = Literal["stop", "length", "abort"]
ModelState = Literal["ready", "loading", "broken"]
# Whether a reply begins in a thought that the prompt has opened, or may itself begin with one.
Thought = Literal["none", "possible", "open"]

PRIORITIES = range(-8, 9)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to choose the next token, and when to stop. Defaults are the neutral ones of the field.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch those filters off.
    ``repetition_penalty`` (1 is none) goes by prompt and reply, as in transformers; presence and
    frequency penalty (0 is none) by the reply alone, as at OpenAI and in vLLM.
    ``logit_bias`` is added to the logits of its token ids.
    ``max_tokens`` counts generated tokens; ``None`` fills the context, 0 makes no reply.
    ``min_tokens``: nothing ends the reply before it has so many, ``max_tokens`` apart.
    ``stop`` strings and ``stop_token_ids`` end the reply and are not part of it; ``ignore_eos``
    makes the base's own end tokens ordinary ones. Where there is a ``thought``, strings in it do
    not count.
    ``seed`` makes a reply reproducible whatever else runs in the batch; ``None`` draws one.
    ``logprobs``: how many of the likeliest tokens to report with each one; 0 reports that one
    alone, ``None`` nothing; ``prompt_logprobs`` the same with each token of the prompt, of which
    then nothing is taken from the prefix cache. ``grammar`` makes the grammar of one reply.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int | None = None
    min_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    thought: Thought = "none"
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Callable[[], Grammar] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """Something that a reply may call. ``parameters``: a JSON schema of its arguments' object."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What an answer reads like as a whole: one of the three.

    ``choices``: one of these texts. ``regex``: what this matches, in Rust's syntax. ``grammar``:
    what can be derived from ``start`` in Lark or from ``root`` in GBNF.
    """

    choices: tuple[str, ...] = ()
    regex: str | None = None
    grammar: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a reply is held to, for :meth:`Engine.grammar`.

    An answer of ``schema`` or of ``form`` (of neither: of any text), or calls of ``functions``, to
    which an answer of any text may lead up. ``must_call``: calls and no answer. ``at_most_one``: of
    the calls. Where there is a ``thought``, it is held to nothing. No ``form`` goes with functions:
    it might allow what reads like a call and is none.
    """

    schema: Mapping[str, Any] | None = None
    form: Form | None = None
    functions: tuple[Function, ...] = ()
    must_call: bool = False
    at_most_one: bool = False
    thought: Thought = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """What a base's chat template knows.

    ``has_calls``: of functions, and how to write calls of them in the form that is read here.
    ``can_choose``: whether thinking can be switched on and off; ``thought_on`` and ``thought_off``
    are how a reply then begins, the same where it cannot.
    """

    has_calls: bool = False
    can_choose: bool = False
    thought_on: Thought = "none"
    thought_off: Thought = "none"

    def thought(self, *, thinks: bool) -> Thought:
        """How a reply begins."""
        return self.thought_on if thinks else self.thought_off


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """One generation: which model, on which prompt tokens, sampled how.

    ``is_repeat``: its prompt is that of the request before, whose cache it will find, and so does
    not count again towards the tokens that wait. ``continues_text``: the reply goes on in the
    middle of a text, so that a space it begins with is kept.
    ``priority``, of :data:`PRIORITIES`: one more goes before a bounded number of earlier requests.
    """

    id: str
    model: str
    prompt: tuple[int, ...]
    sampling: SamplingParams = SamplingParams()
    priority: int = 0
    is_repeat: bool = False
    continues_text: bool = False

    @property
    def waiting_tokens(self) -> int:
        """What it adds to the tokens that wait."""
        return 0 if self.is_repeat else len(self.prompt)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of probabilities at the place of ``token``, which was drawn or given.

    They are the model's own: before mask, bias, penalties, temperature and filters.
    ``alternatives`` are the likeliest tokens, the first first; ``token`` may be among them.
    """

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


class Delta(msgspec.Struct, frozen=True, gc=False):  # quick to make: there is one every token
    """New text, complete characters only, never part of a stop string. May be ``""``.

    ``logprobs``: one for each of its ``tokens``, if they were asked for; none for a token that ends
    the reply and is no part of it.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely the prompt was, if that was asked: once, before all of the reply.

    Nothing precedes its ``first`` token; ``logprobs`` are one for each that follows.
    """

    first: int
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation. Counts are in tokens; an end marker counts as generated."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


Event = Scored | Delta | Finished


class Piece(NamedTuple):
    """One token: the bytes of its ``name``, and of the ``text`` that it adds to a reply.

    They differ for a control token, which adds nothing.
    """

    name: bytes
    text: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One served model: the base (``parent`` is ``None``) or an adapter.

    ``state`` is ``loading`` while an adapter is read into memory for the first who asked for it;
    whoever asks meanwhile waits, too.
    ``created`` is Unix seconds of registration (for the base: of its files).
    ``digest`` is the adapter's content hash; for the base, its weights'.
    """

    name: str
    parent: str | None
    digest: str
    created: int
    context_length: int
    state: ModelState = "ready"
    reason: str | None = None
    rank: int | None = None
    system_prompt: str | None = None
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What an engine has to do, and what its memory holds, just now.

    ``running`` and ``waiting`` are generations; ``waiting_tokens`` those of prompts without a reply
    yet. Of ``kv_blocks``, ``kv_blocks_held`` are in use and ``kv_blocks_cached`` could be found
    again. ``resident``: digests of the adapters in memory.
    """

    running: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    kv_blocks: int = 0
    kv_blocks_held: int = 0
    kv_blocks_cached: int = 0
    resident: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What computes: ``kind`` is ``cpu`` or ``cuda``, ``weights`` the base's number format."""

    kind: str
    name: str
    weights: str


class Generation(Protocol):
    """A running generation. Iterate it once; ``abort`` frees its row within one step.

    ``digest`` is the version of the model that it started with and keeps.
    """

    id: str
    digest: str

    @property
    def is_at_hand(self) -> bool:
        """Whether the next event is there already, so that nobody has to wait for it."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def abort(self) -> None: ...


class Engine(Protocol):
    """What the HTTP side sees of the engine. All methods are called on the event loop."""

    async def start(self) -> None:
        """Load the base and begin stepping; returns once requests can be served."""

    async def close(self) -> None:
        """Stop: running generations end with ``Finished("abort")``. Safe to call twice."""

    @property
    def is_ready(self) -> bool:
        """True while requests can be served (started, its thread alive, not closing)."""

    @property
    def capacity(self) -> int:
        """How many generations run together; one request should not have more."""

    @property
    def base(self) -> Base:
        """The base that is served; what is registered for it names its hashes."""

    @property
    def device(self) -> Device:
        """On what the base is computed, and in which format its weights are."""

    async def refresh(self) -> None:
        """Look at the registry now, without waiting until it is looked at anyway."""

    def load(self) -> Load:
        """What there is to do, and what memory holds; a step may change it at any moment.

        Raises:
            EngineClosed: it does not serve.
        """

    def piece(self, token: int) -> Piece:
        """What a token reads as; nothing for an id that no token has. Safe in any thread."""

    def models(self) -> Sequence[ModelCard]:
        """The base first, then the registered adapters by name."""

    def model(self, name: str) -> ModelCard:
        """One card.

        Raises:
            UnknownModel: neither the base nor a registered adapter.
        """

    @property
    def dialect(self) -> Dialect:
        """What the base's chat template knows, and :meth:`prompt` can show.

        Raises:
            EngineClosed: it does not serve.
        """

    async def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinks: bool = False,
        ending: Ending = "reply",
        must_fit: bool = True,
    ) -> tuple[int, ...]:
        """The token ids of a conversation, as :func:`adapters.prompt.render_prompt` has them.

        Raises:
            PromptInvalid: the base's chat template refuses these messages.
            PromptTooLong: it ``must_fit`` the context, and its bytes alone tell that it does not.
            QueueFull: too much waits for the tokenizer.
        """

    async def encode(
        self, text: str, *, parse_special: bool = False, must_fit: bool = True
    ) -> tuple[int, ...]:
        """The token ids of a text; names of control tokens stay text unless ``parse_special``.

        Raises:
            PromptTooLong, QueueFull: as in :meth:`prompt`.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens by name. Safe in any thread."""

    async def grammar(self, shape: Shape) -> Callable[[], Grammar]:
        """What holds a reply to ``shape``, for :attr:`SamplingParams.grammar`.

        Raises:
            GrammarInvalid: a schema cannot be used, or takes too long, with the reason.
        """

    async def submit(self, request: GenerationRequest) -> Generation:
        """Admit a request.

        Raises:
            UnknownModel, AdapterUnavailable, AdapterUnreadable, PromptInvalid, PromptTooLong,
            SamplingInvalid, QueueFull, EngineClosed
            ValueError: the priority is out of range.
        """
