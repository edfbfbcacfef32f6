"""From a conversation to replies that run, whichever endpoint it came in through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from server.engine.errors import GrammarInvalid
from server.engine.grammar import Grammar
from server.engine.types import Engine, ModelCard, Shape, Thought
from server.errors import grammar_refusal
from server.replies.chat_prompt import chat_prompt
from server.replies.choices import admit, choices_of, requests_for
from server.replies.defaults import sampling
from server.replies.functions import callable_now, shape_of, tools_to_show
from server.replies.parts import PartReader, PlainReader
from server.replies.qwen_reader import QwenReader
from server.replies.reply import Answer
from server.wire.chat import ChatRequest
from server.wire.constraint import Constraint, constraint_of


async def admit_chat(
    engine: Engine,
    card: ModelCard,
    asked: ChatRequest,
    id: str,  # noqa: A002 - the wire's name
) -> Answer:
    """Begin the replies to ``asked`` by the model of ``card``, to be read as parts.

    Everything that can be refused is refused here, while a status is still open. ``asked`` is one
    that :func:`server.wire.conversation.check_conversation` has nothing against.

    Raises:
        InvalidRequest: the request asks for what cannot be done; it names the parameter.
        EngineError: whatever the engine refuses it with.
    """
    choices = choices_of(asked, engine)
    prompt = chat_prompt(asked, engine.dialect, card)
    constraint = constraint_of(asked)
    shape = shape_of(asked, constraint, prompt.thought)
    grammar = None if shape is None else await _grammar(engine, asked, shape, constraint)
    tokens = await prompt.tokens(engine, card, asked)
    how = sampling(
        asked,
        card,
        len(tokens),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        is_plain=not (tools_to_show(asked) or prompt.expects_thoughts),
    )
    how = replace(how, grammar=grammar, thought=prompt.thought)
    requests = requests_for(
        id,
        card,
        [(tokens, how)],
        choices,
        priority=asked.priority,
        continues_text=prompt.ending == "continued",
    )
    return Answer(
        id=id,
        model=card.name,
        generations=await admit(engine, requests),
        choices=choices,
        piece=engine.piece,
        reader=_reader(shape, prompt.thought),
        max_tokens=how.max_tokens,
        has_logprobs=bool(asked.logprobs),
        has_usage=asked.has_usage,
    )


def _reader(shape: Shape | None, thought: Thought) -> Callable[[], PartReader]:
    """What makes a reader of one reply."""
    functions = () if shape is None else tuple(function.name for function in shape.functions)
    if not functions and thought == "none":
        return PlainReader
    return partial(QwenReader, thought=thought, functions=functions)


async def _grammar(
    engine: Engine, asked: ChatRequest, shape: Shape, constraint: Constraint | None
) -> Callable[[], Grammar]:
    try:
        return await engine.grammar(shape)
    except GrammarInvalid as error:
        param = "tools" if constraint is None else constraint.param
        if error.function is not None:
            param = f"tools[{callable_now(asked)[error.function]}].function.parameters"
        raise grammar_refusal(error, param) from error
