"""``truncation: "auto"``: which turns of a conversation that is too long are left out."""

from __future__ import annotations

from collections.abc import Sequence

from server.engine.errors import PromptTooLong
from server.engine.types import Engine, ModelCard
from server.replies.chat_prompt import chat_prompt
from server.responses.chat import Chat, chat_of
from server.responses.turns import Turn, exchanges, without_oldest
from server.wire.responses import ResponsesRequest

# Where no length of the reply is asked for, it gets this part of the context, so that the next
# response does not have to drop a turn too, and finds its beginning in the prefix cache.
REPLY_SHARE = 4


async def fitting(
    engine: Engine, card: ModelCard, asked: ResponsesRequest, turns: Sequence[Turn]
) -> Chat:
    """The chat of ``turns`` without as many of the oldest as it takes to have room for a reply.

    The last exchange is never dropped; if even that is too long, the engine will say so.
    """

    async def length(dropped: int) -> int:
        chat = chat_of(asked, without_oldest(turns, dropped))
        with chat.own_words():
            prompt = chat_prompt(chat.request, engine.dialect, card)
            try:
                return len(await prompt.tokens(engine, card, chat.request))
            except PromptTooLong as error:
                return error.prompt_tokens  # not counted, but more than the context

    context = card.context_length
    low, high = 0, max(exchanges(turns) - 1, 0)
    if not high or await length(0) + (asked.max_output_tokens or 1) <= context:
        return chat_of(asked, turns)
    room = context - (asked.max_output_tokens or context // REPLY_SHARE)
    while high - low > 1:  # dropping ``low`` is too little; the more is dropped, the shorter it is
        middle = (low + high) // 2
        low, high = (low, middle) if await length(middle) <= room else (middle, high)
    return chat_of(asked, without_oldest(turns, high))
