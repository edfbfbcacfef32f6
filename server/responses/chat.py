"""A request for a response as the chat request that it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from server.engine.errors import PromptInvalid, PromptTooLong
from server.responses.turns import Turn
from server.wire.chat import (
    ChatRequest,
    JsonSchema,
    JsonSchemaFormat,
    ResponseFormat,
    SystemMessage,
)
from server.wire.errors import InvalidRequest
from server.wire.parameters import CommonParameters
from server.wire.responses import (
    AllowedTools,
    FunctionChoice,
    FunctionTool,
    ResponsesRequest,
    SchemaFormat,
)
from server.wire.tools import FunctionDefinition, FunctionReference, NamedTool, Tool, ToolChoice

_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
_FUNCTION = re.compile(r"^(tools\[\d+\]|tool_choice)\.function")


@dataclass(frozen=True)
class Chat:
    """The chat request, and what its parameters are called in the request that it comes from."""

    request: ChatRequest
    names: Mapping[str, str]

    @contextmanager
    def own_words(self) -> Iterator[None]:
        """What a chat is refused for, under the names of this API.

        Raises:
            InvalidRequest: naming a parameter of the request for a response.
        """
        try:
            yield
        except InvalidRequest as error:
            raise self._renamed(error) from error
        except PromptTooLong as error:
            what = str(error).replace("max_tokens", "max_output_tokens")
            raise InvalidRequest(what, "input", "context_length_exceeded") from error
        except PromptInvalid as error:
            raise InvalidRequest(str(error), "input") from error

    def _renamed(self, error: InvalidRequest) -> InvalidRequest:
        if error.param is None:
            return error
        param = self._name(error.param)
        reason = error.message.removeprefix(error.param)
        message = error.message if reason == error.message else param + reason
        return InvalidRequest(message, param, error.code)

    def _name(self, param: str) -> str:
        known = [name for name in self.names if param.startswith(name)]
        longest = max(known, key=len, default="")
        renamed = self.names.get(longest, "") + param.removeprefix(longest)
        return _FUNCTION.sub(r"\1", renamed)


def chat_of(asked: ResponsesRequest, given: Sequence[Turn]) -> Chat:
    """The chat request that is answered as ``asked`` is, on these turns.

    Raises:
        InvalidRequest: there is nothing to answer, or ``tool_choice`` allows what is not there.
    """
    turns = list(given)
    if not turns:
        raise InvalidRequest("input: there is nothing in it that the model can read.", "input")
    if asked.instructions is not None:
        turns.insert(0, Turn(SystemMessage(content=asked.instructions), "instructions"))
    shown = _tools_shown(asked)
    common = {name: getattr(asked, name) for name in CommonParameters.__struct_fields__}
    request = ChatRequest(
        **common,
        messages=[turn.message for turn in turns],
        max_completion_tokens=asked.max_output_tokens,
        logprobs=bool(asked.include),
        top_logprobs=asked.top_logprobs,
        response_format=_format(asked),
        tools=[_tool(tool) for tool in shown.values()],
        tool_choice=_choice(asked),
        parallel_tool_calls=asked.parallel_tool_calls,
        reasoning_effort=asked.reasoning.effort if asked.reasoning else None,
    )
    return Chat(request, _names(turns, shown))


def _names(turns: Sequence[Turn], shown: Mapping[int, FunctionTool]) -> Mapping[str, str]:
    names = dict(_NAMES)
    for index, turn in enumerate(turns):
        names[f"messages[{index}]"] = turn.where
        for field, name in turn.names.items():
            names[f"messages[{index}]{field}"] = name
    for index, place in enumerate(shown):
        names[f"tools[{index}]"] = f"tools[{place}]"
    return names


def _format(asked: ResponsesRequest) -> ResponseFormat | None:
    wanted = asked.text.format if asked.text else None
    if not isinstance(wanted, SchemaFormat):
        return wanted
    schema = JsonSchema(
        name=wanted.name,
        description=wanted.description,
        schema=wanted.schema,
        strict=wanted.strict,
    )
    return JsonSchemaFormat(json_schema=schema)


def _tools_shown(asked: ResponsesRequest) -> dict[int, FunctionTool]:
    """Those that the model is shown, by their places: where only some are allowed, these."""
    tools = dict(enumerate(asked.tools or ()))
    if not isinstance(asked.tool_choice, AllowedTools):
        return tools
    known = {tool.name for tool in tools.values()}
    allowed = [choice.name for choice in asked.tool_choice.tools]
    for index, name in enumerate(allowed):
        if name not in known:
            param = f"tool_choice.tools[{index}].name"
            raise InvalidRequest(f"{param}: no function in tools has this name.", param)
    return {index: tool for index, tool in tools.items() if tool.name in allowed}


def _tool(tool: FunctionTool) -> Tool:
    return Tool(
        function=FunctionDefinition(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            strict=tool.strict,
        )
    )


def _choice(asked: ResponsesRequest) -> ToolChoice | None:
    match asked.tool_choice:
        case FunctionChoice(name=name):
            return NamedTool(function=FunctionReference(name=name))
        case AllowedTools(mode=mode):
            return mode
        case choice:
            return choice
