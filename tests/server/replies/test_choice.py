"""One reply, put together from the parts that its reader tells in it."""

from __future__ import annotations

import pytest

from server.engine.errors import EngineClosed
from server.engine.types import Delta, Finished, Piece, TokenLogprobs
from server.replies.choice import Call, Choice
from server.replies.parts import (
    ArgumentsPart,
    CallPart,
    ContentPart,
    Part,
    PartReader,
    PlainReader,
    ReasoningPart,
)
from server.replies.qwen_reader import QwenReader


class Listed:
    """Reads ``r:…`` as thoughts, ``c:…`` as a call, ``a:…`` as its arguments; keeps an end back."""

    def __init__(self) -> None:
        self.has_calls = False
        self._calls = 0

    def feed(self, text: str) -> list[Part]:
        kind, _, rest = text.partition(":")
        match kind:
            case "r":
                return [ReasoningPart(rest)]
            case "c":
                self.has_calls = True
                self._calls += 1
                return [CallPart(self._calls - 1, f"call-{self._calls}", rest)]
            case "a":
                return [ArgumentsPart(self._calls - 1, rest)]
            case _:
                return [ContentPart(text)] if text else []

    def finish(self) -> list[Part]:
        return [ContentPart("。")]


def test_the_parts_are_kept_by_kind() -> None:
    """Thoughts, content and the arguments of each call, in order; what was held back at the end."""
    choice = Choice(0, Listed())
    texts = ("r:嗯", "", "你好", "r:？", "c:f", "a:{", "a:}", "c:g", "a:[]")

    told = [choice.feed(Delta(text, 1)) for text in texts]
    told.append(choice.feed(Finished("stop", 3, 9)))

    assert [len(parts) for parts in told] == [1, 0, *[1] * 8]
    assert "".join(choice.content) == "你好。"
    assert "".join(choice.reasoning) == "嗯？"
    assert choice.calls == [Call("call-1", "f", ["{", "}"]), Call("call-2", "g", ["[]"])]
    assert (choice.end_reason, choice.finish_reason) == ("stop", "tool_calls")


def test_a_reply_that_ran_out_of_tokens_says_so() -> None:
    """Also in the middle of a call."""
    choice = Choice(0, Listed())
    choice.feed(Delta("c:f", 1))
    choice.feed(Finished("length", 3, 9))

    assert choice.finish_reason == "length"


def test_a_reply_that_we_cut_off_is_an_error() -> None:
    """No client knows the reason ``abort``."""
    with pytest.raises(EngineClosed):
        Choice(0, Listed()).feed(Finished("abort", 3, 9))


def test_reasoning_tokens_lead_up_to_the_end_of_the_thoughts() -> None:
    """Those of marks before them count, those of the answer do not."""
    choice = Choice(0, QwenReader(thought="possible"))
    for text in ("<think>", "\n", "嗯", "。", "\n", "</think>", "\n\n", "好", "吧"):
        choice.feed(Delta(text, 1))
    choice.feed(Finished("stop", 3, 9))

    assert ("".join(choice.reasoning), choice.reasoning_tokens) == ("嗯。", 4)


def shown(reader: PartReader, tokens: list[bytes], *, unseen: int = 0) -> list[list[bytes]]:
    """The tokens whose logprobs each event shows: all of ``tokens``, one a time, then the end.

    The last ``unseen`` of them are of a stop string, and so not in the text.
    """
    choice = Choice(0, reader, lambda token: Piece(tokens[token], tokens[token]))
    told = []
    decoded = 0
    for index in range(len(tokens)):
        text = b"".join(tokens[: index + 1]).decode(errors="ignore")
        new = "" if index >= len(tokens) - unseen else text[decoded:]
        decoded += len(new)
        choice.feed(Delta(new, 1, (TokenLogprobs(index, -1.0),)))
        told.append([tokens[each.token] for each in choice.take()])
    choice.feed(Finished("stop", 1, len(tokens)))
    told.append([tokens[each.token] for each in choice.take()])
    return told


def test_logprobs_are_those_of_the_content() -> None:
    """Not of thoughts, calls, marks, or the white space between; each with its text."""
    tokens = [b"<think>", b"\n", b"a", b"</think>", b"\n\n", b"b", b"c <", b"tool", b"_call>"]
    tokens += [b'\n{"name": "now", "arguments": {', b"}}\n</tool_call>", b"\n"]

    told = shown(QwenReader(thought="possible", functions=["now"]), tokens)

    assert told == [[]] * 5 + [[b"b"], [b"c <"], *[[]] * 6]


def test_logprobs_wait_for_their_text() -> None:
    """A part of a character for the rest of it, what may begin a call until it does not."""
    tokens = ["你".encode()[:1], "你".encode()[1:], b"<to", b"p", b"\n", b"!"]

    told = shown(QwenReader(functions=["now"]), tokens)

    assert told == [[], [*tokens[:2]], [], [b"<to", b"p"], [], [b"\n", b"!"], []]


def test_a_token_that_has_a_share_in_the_content_is_shown() -> None:
    """Also where it begins or ends in a mark."""
    tokens = [b"x</think>\n\ny", b"z", b"\n<tool_call>"]

    told = shown(QwenReader(thought="open", functions=["now"]), tokens)

    assert told == [[tokens[0]], [b"z"], [], [tokens[2]]], "the unfinished call is content"


@pytest.mark.parametrize("reader", [PlainReader(), QwenReader(functions=["now"])])
def test_the_tokens_of_a_stop_string_are_shown_at_the_end(reader: PartReader) -> None:
    """Whoever counts tokens finds them all."""
    assert shown(reader, [b"a", b"b", b"STOP"], unseen=1) == [[b"a"], [b"b"], [], [b"STOP"]]


def test_no_tokens_of_a_stop_string_are_shown_behind_a_call() -> None:
    """There is no content that it would have gone on with."""
    tokens = [b'<tool_call>\n{"name": "now", "arguments": {}', b"STOP"]

    assert shown(QwenReader(functions=["now"]), tokens, unseen=1) == [[], [], []]
