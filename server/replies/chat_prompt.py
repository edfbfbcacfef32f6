"""From a conversation to the tokens of its prompt, where the base's chat template can show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapters.base import POCKET
from adapters.conversation import Ending
from server.engine.types import Dialect, Engine, ModelCard, Thought
from server.replies.defaults import conversation
from server.replies.functions import shown, tools_to_show
from server.wire.chat import AssistantMessage, ToolMessage
from server.wire.conversation import Conversation, thinks
from server.wire.errors import InvalidRequest

_NO_CALLS = (
    "the chat template of this server's base has no functions, or none in Qwen's form, so they "
    "cannot be used with it."
)
# Our own base has had them in its template only since it learnt of them.
_OLD_POCKET = (
    f"this server's '{POCKET}' was built when its chat template had no functions. "
    f"`lccc-admin base {POCKET} --rebuild` builds it with them; then restart the server, and train "
    "again what was trained on the old one."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """What a prompt is rendered from beside its messages, and how the reply to it begins."""

    thinks: bool
    ending: Ending
    thought: Thought

    @property
    def expects_thoughts(self) -> bool:
        """Whether there will be some, rather than that there may."""
        return self.thought == "open" or (self.thinks and self.thought != "none")

    async def tokens(
        self, engine: Engine, card: ModelCard, asked: Conversation, *, must_fit: bool = True
    ) -> tuple[int, ...]:
        """The prompt of ``asked`` for the model of ``card``.

        Raises:
            InvalidRequest: the arguments of a call are no JSON object.
            PromptInvalid: the chat template refuses these messages.
            PromptTooLong: it ``must_fit`` the context, and its bytes alone tell that it does not.
            QueueFull: too much text waits for the tokenizer.
        """
        return await engine.prompt(
            conversation(asked.messages or (), card),
            tools=[shown(tool) for tool in tools_to_show(asked)],
            thinks=self.thinks,
            ending=self.ending,
            must_fit=must_fit,
        )


def chat_prompt(asked: Conversation, dialect: Dialect, card: ModelCard) -> ChatPrompt:
    """How to render ``asked`` for the model of ``card``.

    Raises:
        InvalidRequest: the base's template cannot show it; whatever it would leave out is refused.
    """
    no_calls = _OLD_POCKET if (card.parent or card.name) == POCKET else _NO_CALLS
    for param, what in _refusals(asked, dialect, no_calls):
        raise InvalidRequest(f"{param}: {what}", param, "unsupported_parameter")
    thinks_now = bool(thinks(asked))
    ending = _ending(asked)
    # A message that goes on, or a turn that was not opened, begins with no thought.
    thought = dialect.thought(thinks=thinks_now) if ending == "reply" else "none"
    return ChatPrompt(thinks=thinks_now, ending=ending, thought=thought)


def _ending(asked: Conversation) -> Ending:
    if asked.continue_final_message:
        return "continued"
    return "bare" if asked.add_generation_prompt is False else "reply"


def _refusals(asked: Conversation, dialect: Dialect, no_calls: str) -> Iterator[tuple[str, str]]:
    if not dialect.has_calls:
        if tools_to_show(asked):
            yield "tools", no_calls
        for index, message in enumerate(asked.messages or ()):
            if isinstance(message, ToolMessage):
                yield f"messages[{index}].role", no_calls
            if isinstance(message, AssistantMessage) and message.tool_calls:
                yield f"messages[{index}].tool_calls", no_calls
    wanted = thinks(asked)
    if wanted is None or dialect.can_choose:
        return
    by_effort = asked.reasoning_effort is not None
    param = "reasoning_effort" if by_effort else "chat_template_kwargs.enable_thinking"
    if wanted and dialect.thought_on != "open":
        yield param, "the chat template of this server's base has no switch for thinking."
    if not wanted and dialect.thought_off == "open":
        yield param, "this server's base always thinks before it answers."
