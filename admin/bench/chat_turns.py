"""Chats of several turns: how soon the last is answered when the server remembers the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from admin.bench.errors import BenchFailed
from admin.bench.http_client import HttpClient, full_length
from admin.bench.timeline import Round, Timeline
from admin.bench.workload import Message, Prompter, one_message


@dataclass(frozen=True, kw_only=True)
class ChatShape:
    """A chat up to turn ``turns``.

    What was said before it has ``history_tokens`` tokens, the template's included, or a few less,
    so that its turns are of one length. Each reply has ``reply_tokens``, and the last question
    ``question_tokens``.
    """

    turns: int
    history_tokens: int
    question_tokens: int
    reply_tokens: int

    def said_tokens(self, overhead: int) -> int:
        """Tokens that the user says in each earlier turn. ``overhead``: the template's in one.

        Raises:
            BenchFailed: replies and template alone are longer than the history should be.
        """
        earlier = self.turns - 1
        each = self.history_tokens // earlier - self.reply_tokens - overhead
        if each < 1:
            least = earlier * (self.reply_tokens + overhead + 1)
            raise BenchFailed(
                f"--history-tokens {self.history_tokens} is too short for {earlier} turns with "
                f"replies of {self.reply_tokens} tokens; they need {least}."
            )
        return each


def turn_overhead(prompter: Prompter) -> int:
    """Tokens that the template puts around an earlier turn's question and reply."""
    if prompter.count is None:
        return 0
    first = one_message("")
    reply: Message = {"role": "assistant", "content": ""}
    return prompter.count([*first, reply, *first]) - prompter.count(first)


@dataclass(frozen=True, kw_only=True)
class ChatSide:
    """A server that is asked the same chats as the other; only the last turn is measured."""

    client: HttpClient
    model: str
    shape: ChatShape
    prompter: Prompter

    async def play(self, number: int) -> Round:
        """Have chat ``number``; its last turn."""
        said = self.shape.said_tokens(turn_overhead(self.prompter))
        messages: list[Message] = []
        for turn in range(1, self.shape.turns):
            messages.append(self._question(number, turn, said))
            reply = await self._ask(messages)
            if reply.failure is not None:
                raise BenchFailed(f"{self.client.url}: turn {turn} failed: {reply.failure}")
            messages.append({"role": "assistant", "content": reply.text})
        messages.append(self._question(number, self.shape.turns, self.shape.question_tokens))
        last = await self._ask(messages)
        ended_s = last.text_s[-1] if last.text_s else last.sent_s
        return Round(timelines=(last,), begun_s=last.sent_s, ended_s=ended_s)

    def _question(self, number: int, turn: int, tokens: int) -> Message:
        seed = f"{self.prompter.workload.seed} chat {number} {turn}"
        return {"role": "user", "content": self.prompter.text(tokens, seed)}

    async def _ask(self, messages: Sequence[Message]) -> Timeline:
        body = full_length(messages, self.shape.reply_tokens)
        return await self.client.chat(self.model, body)
