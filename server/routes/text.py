"""``POST /v1/completions``: admit the request, then answer whole or as a stream."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from litestar import Request, Response, post

from server.access.origins import require_json
from server.access.scopes import INFERENCE
from server.engine.errors import GrammarInvalid, PromptInvalid, PromptTooLong
from server.engine.grammar import Grammar
from server.engine.types import Engine, ModelCard, Shape
from server.errors import grammar_refusal
from server.openapi.operations import ERRORS, TextOperation
from server.replies.choices import admit, choices_of, requests_for
from server.replies.defaults import sampling
from server.replies.functions import form_of
from server.replies.reply import Answer
from server.replies.text import TextReply
from server.routes.answering import body_of, headers_of, respond, unless_gone
from server.routes.provided import ProvidedEngine, ProvidedSettings
from server.wire.constraint import constraint_of
from server.wire.decode import decode_completion_request
from server.wire.errors import InvalidRequest
from server.wire.text import CompletionRequest, TextCompletion

# OpenAI's.
DEFAULT_MAX_TOKENS = 16


@post(
    "/completions",
    status_code=200,
    guards=[require_json],
    opt=INFERENCE,
    operation_id="createCompletion",
    operation_class=TextOperation,
    summary="Go on where a prompt ends",
    tags=["completions"],
    responses=ERRORS,
)
async def create_completion(
    request: Request[Any, Any, Any],
    engine: ProvidedEngine,
    settings: ProvidedSettings,
) -> Response[TextCompletion]:
    """Answer with a text completion, or with `stream: true` as server-sent events.

    No chat template is applied. Choices of the first prompt come first, then those of the next.
    """
    decoded = decode_completion_request(await body_of(request))
    asked = decoded.request
    card = engine.model(asked.model)
    id = f"cmpl-{uuid.uuid4().hex}"  # noqa: A001 - the wire's name
    reply = await unless_gone(_admit(engine, card, asked, id), request.receive)
    headers = headers_of(card, reply.answer.generations[0], decoded.ignored)
    return await respond(request, settings, asked, reply, headers)


async def _admit(
    engine: Engine,
    card: ModelCard,
    asked: CompletionRequest,
    id: str,  # noqa: A002 - the wire's name
) -> TextReply:
    """Everything that can be refused is refused here, while the status is still open."""
    given = prompts_of(asked)
    choices = choices_of(asked, engine, len(given))
    grammar = await _grammar(engine, asked)
    prompts = []
    for one in given:
        with _own_words():
            tokens = await _tokens(engine, asked, one)
        how = sampling(
            asked,
            card,
            len(tokens),
            max_tokens=asked.max_tokens,
            logprobs=asked.logprobs,
            default_max_tokens=DEFAULT_MAX_TOKENS,
        )
        prompts.append(
            (
                tokens,
                replace(
                    how,
                    prompt_logprobs=asked.logprobs if asked.echo else None,
                    grammar=grammar,
                ),
            )
        )
    requests = requests_for(
        id, card, prompts, choices, priority=asked.priority, continues_text=True
    )
    with _own_words():
        generations = await admit(engine, requests)
    answer = Answer(
        id=id,
        model=card.name,
        generations=generations,
        choices=choices,
        piece=engine.piece,
        has_logprobs=asked.logprobs is not None,
        has_usage=asked.has_usage,
    )
    return TextReply(answer, _echoes(engine, asked, [tokens for tokens, _ in prompts]))


async def _grammar(engine: Engine, asked: CompletionRequest) -> Callable[[], Grammar] | None:
    """What a reply, which goes on after the prompt, is held to by itself."""
    constraint = constraint_of(asked)
    if constraint is None:
        return None
    try:
        return await engine.grammar(Shape(schema=constraint.schema, form=form_of(constraint)))
    except GrammarInvalid as error:
        raise grammar_refusal(error, constraint.param) from error


@contextmanager
def _own_words() -> Iterator[None]:
    """What a prompt is refused for, under the name that it has here."""
    try:
        yield
    except PromptTooLong as error:
        raise InvalidRequest(str(error), "prompt", "context_length_exceeded") from error
    except PromptInvalid as error:
        raise InvalidRequest(str(error), "prompt") from error


Prompt = str | Sequence[int]


def prompts_of(asked: CompletionRequest) -> list[Prompt]:
    """The prompts, each a text or its tokens."""
    given = asked.prompt
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [cast("list[int]", given)]
    return cast("list[Prompt]", given)


async def _tokens(engine: Engine, asked: CompletionRequest, prompt: Prompt) -> tuple[int, ...]:
    if not isinstance(prompt, str):
        return tuple(prompt)
    return await engine.encode(prompt, parse_special=bool(asked.parse_special))


def _echoes(
    engine: Engine, asked: CompletionRequest, prompts: Sequence[tuple[int, ...]]
) -> Sequence[str]:
    """What stands before the replies to each; where it has logprobs, it is what its tokens read."""
    if not asked.echo:
        return ()
    return [
        given if isinstance(given, str) and asked.logprobs is None else engine.decode(tokens)
        for given, tokens in zip(prompts_of(asked), prompts, strict=True)
    ]
