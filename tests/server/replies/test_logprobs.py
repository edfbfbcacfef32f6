"""``logprobs``: what the engine reports, in OpenAI's words."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from litestar.testing import TestClient

from server.engine.types import TokenLogprobs
from server.replies.logprobs import Offsets, chat_logprobs
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine
from tests.server.asking import ask, frames

FOUND = (
    TokenLogprobs(97, -0.5, ((97, -0.5), (98, -1.0))),
    TokenLogprobs(0xE4, -2.0, ((0xE4, -2.0), (99, -math.inf))),
    TokenLogprobs(100, -0.25, ()),
)
ENTRIES = [
    {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "b", "logprob": -1.0, "bytes": [98]},
        ],
    },
    {
        "token": "�",
        "logprob": -2.0,
        "bytes": [0xE4],
        "top_logprobs": [
            {"token": "�", "logprob": -2.0, "bytes": [0xE4]},
            {"token": "c", "logprob": -9999.0, "bytes": [99]},
        ],
    },
    {"token": "d", "logprob": -0.25, "bytes": [100], "top_logprobs": []},
]


def test_logprobs_have_openais_shape(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Tokens as text and bytes, also where a token is a part of a character or impossible."""
    engine._scripts = [Script(pieces=("a", "", "d"), logprobs=FOUND)]

    choice = ask(client, logprobs=True, top_logprobs=2).json()["choices"][0]

    assert choice["logprobs"] == {"content": ENTRIES, "refusal": None}
    assert engine.requests[0].sampling.logprobs == 2


def test_a_stream_shows_each_tokens_logprobs_once(live: LiveServer) -> None:
    """With the text that the token belongs to; what has none comes with the next, or at the end."""
    with live(Script(pieces=("a", "", "d"), logprobs=FOUND)) as server:
        sent = frames(server, logprobs=True, top_logprobs=2)
    with live(Script(pieces=("a", "", ""), logprobs=FOUND)) as server:
        without_text = frames(server, logprobs=True, top_logprobs=2)

    assert [frame["choices"][0]["logprobs"] for frame in sent] == [
        None,
        {"content": ENTRIES[:1], "refusal": None},
        {"content": ENTRIES[1:], "refusal": None},
        None,
    ]
    *_, rest, finish = [frame["choices"][0] for frame in without_text]
    assert (rest["delta"], rest["logprobs"]["content"]) == ({"content": ""}, ENTRIES[1:])
    assert (finish["finish_reason"], finish["logprobs"]) == ("stop", None)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
    ids=json.dumps,
)
def test_what_is_asked_reaches_the_engine(
    client: TestClient[Any], engine: ScriptedEngine, fields: dict[str, Any], asked: int | None
) -> None:
    """``logprobs`` alone is about the tokens of the reply and no others."""
    choice = ask(client, **fields).json()["choices"][0]

    assert engine.requests[0].sampling.logprobs == asked
    assert (choice["logprobs"] is None) == (asked is None)


def test_alternatives_alone_are_refused(client: TestClient[Any]) -> None:
    """As at OpenAI, ``top_logprobs`` needs ``logprobs``."""
    response = ask(client, top_logprobs=3)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "top_logprobs")


def test_probabilities_that_are_none_stay_numbers() -> None:
    """JSON has no infinity."""
    (entry,) = chat_logprobs([TokenLogprobs(65, -math.inf)], ScriptedEngine().piece)
    assert entry.logprob == -9999.0


@pytest.mark.parametrize(
    ("pieces", "offsets"),
    [
        ([b"a", b"bc", b"d"], [0, 1, 3]),
        ([b"\xe5\xba", b"\x8a", b"a"], [0, 0, 1]),
        ([b"a\xe5", b"\xba\x8ab", b"c"], [0, 1, 3]),
        ([b"\xe5", b"y", b"z"], [0, 1, 2]),
        ([b"\xe5\xba", b"\xe5", b"\xba\x8a"], [0, 1, 1]),
        ([b"\xe0", b"\x80", b"a"], [0, 1, 2]),
        ([b"", b"a", b"", b"b"], [0, 0, 1, 1]),
    ],
)
def test_offsets_count_characters(pieces: list[bytes], offsets: list[int]) -> None:
    """Also where characters lie across tokens, or bytes never become one."""
    counting = Offsets(5)
    assert [counting.next(piece) for piece in pieces] == [5 + offset for offset in offsets]
