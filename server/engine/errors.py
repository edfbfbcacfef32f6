"""What the engine refuses or fails at. It knows no status codes; ``server.errors`` maps these.

EngineError
├── UnknownModel        neither the base nor a registered adapter
├── AdapterUnavailable  registered, but it cannot be served (the reason says why)
├── AdapterUnreadable   registered, but its files cannot be read now (try again later)
├── PromptInvalid       the prompt is empty, or the chat template refuses it
├── PromptTooLong       prompt and reply do not fit the context
├── SamplingInvalid     a sampling parameter is out of range
├── GrammarInvalid      replies cannot be held to the schema or form
├── QueueFull           too many sequences, tokens or bytes are waiting (try again later)
├── EngineClosed        shutting down, no new work
└── GenerationFailed    an accepted generation broke off
"""

from __future__ import annotations

from adapters.errors import LcccError


class EngineError(LcccError):
    """Base of everything the engine raises on purpose."""


class UnknownModel(EngineError):
    """No base or adapter of this name is served."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The model '{name}' does not exist. GET /v1/models lists what is served.")


class AdapterUnavailable(EngineError):
    """The adapter is registered but broken; ``reason`` is for its owner."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"The adapter '{name}' cannot be served: {reason}")


class AdapterUnreadable(EngineError):
    """The adapter's files could not be read just now; the next request tries again."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(
            f"The adapter '{name}' cannot be read now: {reason}. Try again in a moment."
        )


class PromptInvalid(EngineError):
    """There is nothing to reply to, or the base cannot be prompted like this."""


class PromptTooLong(EngineError):
    """The prompt, with the reply asked for, exceeds the context. All counts are in tokens.

    ``is_least``: nobody counted ``prompt_tokens``; by the text's bytes, there are at least so many.
    """

    def __init__(
        self,
        prompt_tokens: int,
        max_tokens: int | None,
        context_length: int,
        *,
        is_least: bool = False,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context_length = context_length
        asked = f"With max_tokens {max_tokens} the" if max_tokens else "The"
        least = "at least " if is_least else ""
        # Clients look for "prompt is too long" and "maximum context length is" to shorten it.
        super().__init__(
            f"{asked} prompt is too long: this model's maximum context length is {context_length} "
            f"tokens, and the prompt has {least}{prompt_tokens}. Shorten it or lower max_tokens."
        )


class SamplingInvalid(EngineError, ValueError):
    """A value that no reply can be sampled with. ``field``: the parameter's name."""

    def __init__(self, field: str, what: str) -> None:
        self.field = field
        super().__init__(f"{field}: {what}")


class GrammarInvalid(EngineError):
    """A schema or form is too large, too slow, or not one that replies can be held to.

    ``function``: whose, counted from 0; none: the answer's, or all of them together. ``what``: a
    noun for it.
    """

    def __init__(
        self, reason: str, function: int | None = None, *, what: str = "JSON schema"
    ) -> None:
        self.function = function
        self.is_of_schema = what == "JSON schema"
        super().__init__(f"The {what} cannot be used: {reason}")


class QueueFull(EngineError):
    """The waiting line is full. ``retry_after_s`` is a measured guess, in seconds.

    ``waiting_tokens``: what is still to be computed of the prompts that came before;
    ``waiting_bytes``: what is still to be made tokens of.
    """

    def __init__(
        self, waiting: int, retry_after_s: float, waiting_tokens: int = 0, waiting_bytes: int = 0
    ) -> None:
        self.waiting = waiting
        self.retry_after_s = retry_after_s
        self.waiting_tokens = waiting_tokens
        self.waiting_bytes = waiting_bytes
        tokens = f" and {waiting_tokens} tokens of prompts" if waiting_tokens else ""
        tokens += f" and {waiting_bytes} bytes of text" if waiting_bytes else ""
        super().__init__(
            f"The server is busy: {waiting} requests{tokens} are waiting. "
            f"Try again in {retry_after_s:.0f} s."
        )


class EngineClosed(EngineError):
    """The engine is shutting down."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.")


class GenerationFailed(EngineError):
    """Something broke while this sequence ran; other sequences go on."""
