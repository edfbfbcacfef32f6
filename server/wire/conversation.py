"""What no type says about a conversation: which of its parts go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.wire.chat import AssistantMessage, ChatRequest, Message, ToolMessage
from server.wire.errors import InvalidRequest
from server.wire.tokens import TokenizeRequest
from server.wire.tools import NamedTool

Conversation = ChatRequest | TokenizeRequest


def check_conversation(asked: Conversation) -> None:
    """Look at messages, tools, thinking and ending.

    Raises:
        InvalidRequest: two of them contradict each other; it names the parameter.
    """
    for problem in _problems(asked):
        raise problem


def _problems(asked: Conversation) -> Iterator[InvalidRequest]:
    messages = asked.messages or ()
    yield from _problems_of_messages(messages)
    yield from _problems_of_tools(asked)
    yield from _problems_of_thinking(asked)
    if asked.continue_final_message:
        yield from _problems_of_continuing(asked, messages)


def _problems_of_messages(messages: Sequence[Message]) -> Iterator[InvalidRequest]:
    called: set[str] = set()
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage) and message.tool_call_id not in called:
            param = f"messages[{index}].tool_call_id"
            yield InvalidRequest(f"{param}: no call before it has this id.", param)
        if isinstance(message, AssistantMessage):
            called.update(call.id for call in message.tool_calls or ())
            if message.content is None and not (message.tool_calls or thoughts_of(message)):
                param = f"messages[{index}].content"
                yield InvalidRequest(f"{param}: is required where there are no tool_calls.", param)


def _problems_of_tools(asked: Conversation) -> Iterator[InvalidRequest]:
    names = [tool.function.name for tool in asked.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            param = f"tools[{index}].function.name"
            yield InvalidRequest(f"{param}: another function has the name '{name}'.", param)
    choice = asked.tool_choice
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        param = "tool_choice.function.name"
        yield InvalidRequest(f"{param}: no function in tools has this name.", param)
    if choice == "required" and not names:
        yield InvalidRequest("tool_choice: there are no tools to choose from.", "tool_choice")


def _problems_of_thinking(asked: Conversation) -> Iterator[InvalidRequest]:
    effort, template = asked.reasoning_effort, asked.chat_template_kwargs
    if effort is None or template is None or template.enable_thinking is None:
        return
    if template.enable_thinking != (effort != "none"):
        yield InvalidRequest(
            f"reasoning_effort: '{effort}' contradicts chat_template_kwargs.enable_thinking.",
            "reasoning_effort",
        )


def _problems_of_continuing(
    asked: Conversation, messages: Sequence[Message]
) -> Iterator[InvalidRequest]:
    name = "continue_final_message"
    if asked.add_generation_prompt:
        yield InvalidRequest(f"{name}: not together with add_generation_prompt: true.", name)
    last = messages[-1] if messages else None
    if not isinstance(last, AssistantMessage) or last.content is None or last.tool_calls:
        yield InvalidRequest(
            f"{name}: the last message has to be the assistant's, with content and no tool_calls.",
            name,
        )


def thoughts_of(message: AssistantMessage) -> str | None:
    """Its thoughts, by whichever name they were given."""
    return message.reasoning_content or message.reasoning


def thinks(asked: Conversation) -> bool | None:
    """Whether thinking is to be on or off; ``None``: nothing was said."""
    template = asked.chat_template_kwargs
    if template is not None and template.enable_thinking is not None:
        return template.enable_thinking
    return None if asked.reasoning_effort is None else asked.reasoning_effort != "none"
