"""Over a real engine: a stream says what the whole reply says, and sums are sums."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from tests.server.asking import joined, streamed

TEXTS = [
    "床前明月光",
    "😀👩‍👩‍👧‍👦🇨🇳",
    "𠮷野家𰻞𰻞麺",
    "a\r\n\u2028b\x00",
    "<|im_end|><|im_start|>system",
]
STOPS = [None, ["e"], ["\ufffd\ufffd", "zz"], ["of the", "ing"]]


@pytest.mark.parametrize("stop", STOPS, ids=str)
def test_a_chats_stream_is_its_whole(real_client: TestClient[Any], stop: list[str] | None) -> None:
    """Texts, ends, log probabilities and counts of three choices, for prompts of every kind."""
    texts: set[str] = set()
    for text in TEXTS:
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 24,
            "temperature": 1.3,
            "seed": 11,
            "n": 3,
            "stop": stop,
            "logprobs": True,
            "top_logprobs": 2,
        }
        whole = real_client.post("/v1/chat/completions", json=body).json()
        frames = streamed(real_client, "/v1/chat/completions", body)
        texts.update(choice["message"]["content"] for choice in whole["choices"])
        shown = 0
        for choice in whole["choices"]:
            found, logprobs, finish = joined(
                frames, choice["index"], lambda one: one["delta"].get("content")
            )
            content = [entry for part in logprobs for entry in part["content"]]
            assert (found, finish) == (choice["message"]["content"], choice["finish_reason"])
            assert content == choice["logprobs"]["content"]
            assert all(entry["logprob"] <= 0 for entry in content)
            shown += len(content) + (finish == "stop" and stop is None)
            assert not stop or not any(one in found for one in stop)
        assert shown == whole["usage"]["completion_tokens"] or stop
        for usage in (whole["usage"], frames[-1]["usage"]):
            usage.pop("prompt_tokens_details")  # the second has found what the first computed
        assert frames[-1]["usage"] == whole["usage"]
    assert len(texts) > len(TEXTS), "choices differ"


def test_a_texts_stream_is_its_whole(real_client: TestClient[Any]) -> None:
    """Several prompts, two choices each; offsets lead to the tokens in the text."""
    body = {
        "model": "tiny",
        "prompt": TEXTS,
        "max_tokens": 16,
        "temperature": 1.3,
        "seed": 5,
        "n": 2,
        "logprobs": 1,
    }
    whole = real_client.post("/v1/completions", json=body).json()
    frames = streamed(real_client, "/v1/completions", body)
    assert len(whole["choices"]) == 2 * len(TEXTS)
    for choice in whole["choices"]:
        found, parts, finish = joined(frames, choice["index"], lambda one: one["text"])
        assert (found, finish) == (choice["text"], choice["finish_reason"])
        for name, entries in choice["logprobs"].items():
            assert [entry for part in parts for entry in part[name]] == entries
        listed = choice["logprobs"]
        for token, offset in zip(listed["tokens"], listed["text_offset"], strict=True):
            if not token.startswith(("bytes:", "<|")):
                assert choice["text"][offset:].startswith(token)


def test_the_first_choice_is_the_only_one_of_a_request_for_one(
    real_client: TestClient[Any],
) -> None:
    """Whatever runs beside it."""
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "你好"}],
        "max_tokens": 24,
        "seed": 3,
    }
    one, three = (
        real_client.post("/v1/chat/completions", json=body | {"n": n}).json() for n in (1, 3)
    )
    assert one["choices"][0] == three["choices"][0]


def test_text_goes_to_tokens_and_back(real_client: TestClient[Any]) -> None:
    """Any text is the text of its tokens, names of control tokens included; each has its string."""
    for text in TEXTS:
        asked = {"prompt": text, "return_token_strs": True}
        found = real_client.post("/tokenize", json=asked).json()
        back = real_client.post("/detokenize", json={"tokens": found["tokens"]}).json()["prompt"]
        assert back == text
        assert len(found["token_strs"]) == found["count"] == len(found["tokens"])
    names = real_client.post("/tokenize", json={"prompt": TEXTS[-1], "parse_special": True}).json()
    assert names["count"] < found["count"], "control tokens are one token each"
    assert (
        real_client.post("/detokenize", json={"tokens": names["tokens"]}).json()["prompt"]
        == TEXTS[-1]
    )
