"""A request's functions: as a prompt shows them, and what a reply is held to because of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.engine.types import Form, Function, Shape, Thought
from server.wire.chat import ChatRequest
from server.wire.constraint import Constraint
from server.wire.conversation import Conversation
from server.wire.errors import InvalidRequest
from server.wire.tools import FunctionDefinition, NamedTool, Tool

NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


def tools_to_show(asked: Conversation) -> Sequence[Tool]:
    """Those that the prompt shows: with ``tool_choice: none`` there are none to be called."""
    return () if asked.tool_choice == "none" else asked.tools or ()


def shown(tool: Tool) -> Mapping[str, Any]:
    """A tool as chat templates take it; what is not said of it is left out."""
    function = tool.function
    described = {} if function.description is None else {"description": function.description}
    parameters = _parameters(function)
    return {
        "type": "function",
        "function": {"name": function.name, **described, "parameters": parameters},
    }


def callable_now(asked: Conversation) -> list[int]:
    """Which of the tools may be called, by their places."""
    tools = tools_to_show(asked)
    choice = asked.tool_choice
    if isinstance(choice, NamedTool):
        name = choice.function.name
        return [index for index, tool in enumerate(tools) if tool.function.name == name]
    return list(range(len(tools)))


def shape_of(asked: ChatRequest, constraint: Constraint | None, thought: Thought) -> Shape | None:
    """What a reply is held to; nothing where any text will do.

    Its functions are those that are :func:`callable_now`.

    Raises:
        InvalidRequest: an answer of this form may not stand beside calls; it names the parameter.
    """
    tools = tools_to_show(asked)
    functions = [tools[index].function for index in callable_now(asked)]
    if constraint is None and not functions:
        return None
    form = None if constraint is None else form_of(constraint)
    if constraint is not None and form is not None and functions:
        param = constraint.param
        raise InvalidRequest(
            f'{param}: not together with functions that may be called; say tool_choice: "none", or '
            "ask for JSON.",
            param,
        )
    is_named = isinstance(asked.tool_choice, NamedTool)
    return Shape(
        schema=None if constraint is None else constraint.schema,
        form=form,
        functions=tuple(
            Function(name=function.name, parameters=_parameters(function)) for function in functions
        ),
        must_call=is_named or asked.tool_choice == "required",
        at_most_one=is_named or asked.parallel_tool_calls is False,
        thought=thought,
    )


def form_of(constraint: Constraint) -> Form | None:
    """The form of answers that are not held to a schema."""
    if constraint.schema is not None:
        return None
    return Form(
        choices=tuple(constraint.choice or ()), regex=constraint.regex, grammar=constraint.grammar
    )


def _parameters(function: FunctionDefinition) -> Mapping[str, Any]:
    return NO_ARGUMENTS if function.parameters is None else function.parameters
