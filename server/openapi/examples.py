"""Examples for the OpenAPI document, by the operations' ids.

Answers are made of the wire's own types, so that they have its shapes whatever becomes of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from server.access.doorkeeper import INSUFFICIENT, INVALID, MISSING, UNREADABLE
from server.errors import SHUTTING_DOWN
from server.http.sse import DONE, frame
from server.openapi import examples_of_admin, examples_of_responses
from server.wire.completions import (
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    ChunkDelta,
    CompletionTokensDetails,
    PromptTokensDetails,
    ReplyMessage,
    Usage,
)
from server.wire.models import Health, Model, ModelList, Sampling, Version
from server.wire.session import OpenSession
from server.wire.text import TextChoice, TextCompletion
from server.wire.tokens import Detokenized, Tokenized

_CHAT = {"model": "cat", "messages": [{"role": "user", "content": "今天下雨了"}]}
_MORE = [
    {"role": "system", "content": "你是一只猫。"},
    *_CHAT["messages"],
    {"role": "assistant", "content": "那就一起听雨吧。"},
    {"role": "user", "content": "好呀"},
]
_SHAPE = {
    "type": "json_schema",
    "json_schema": {
        "name": "weather",
        "schema": {
            "type": "object",
            "properties": {"sky": {"enum": ["晴", "雨", "雪"]}},
            "required": ["sky"],
            "additionalProperties": False,
        },
    },
}
_TEXT = {"model": "cat", "prompt": "床前明月光，", "max_tokens": 16}
_LOAD = {"lora_name": "support", "lora_path": "/srv/adapters/support"}

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    **examples_of_admin.REQUESTS,
    **examples_of_responses.REQUESTS,
    "createChatCompletion": {
        "a reply": _CHAT,
        "a reply as a stream": _CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        "a reply to several turns": _CHAT
        | {"messages": _MORE, "temperature": 0.7, "top_p": 0.9, "seed": 7},
        "a reply of a given shape": _CHAT | {"response_format": _SHAPE},
        "one of several replies": _CHAT | {"structured_outputs": {"choice": ["晴", "雨", "雪"]}},
        "a reply that may wait for others": _CHAT | {"priority": 4},
    },
    "createCompletion": {
        "a text": _TEXT,
        "a text as a stream": _TEXT | {"stream": True},
        "a text with log probabilities": _TEXT | {"logprobs": 2, "n": 2, "seed": 7},
        "how likely a text is": _TEXT | {"echo": True, "logprobs": 0, "max_tokens": 0},
    },
    "tokenize": {
        "a text": {"prompt": "你好", "return_token_strs": True},
        "a conversation": _CHAT,
    },
    "detokenize": {"tokens": {"tokens": [108386]}},
    "loadLoraAdapter": {
        "a new adapter": _LOAD,
        "an adapter instead of another": _LOAD | {"load_inplace": True},
        "an adapter whose config names another base": _LOAD | {"assume_base": True},
    },
    "unloadLoraAdapter": {"an adapter": {"lora_name": "support"}},
    "openSession": {"a key": {"key": "lccc-…"}},
}

_CREATED = 1767225600
_DIGEST = "5f0c6bd1e2a94c7f8d3b1a60c9e4725db8f1036a7c52e94d0b6f83a1d7c4e952"
_OTHER = "b1946ac92492d2347c6235b4d2611184f0e8c9a35d7b6402e1c8f97a3d5b0e46"
_NAMED: dict[str, Any] = {
    "created": _CREATED,
    "model": "cat",
    "system_fingerprint": f"fp_{_DIGEST[:12]}",
}
_USAGE = Usage(
    prompt_tokens=21,
    completion_tokens=9,
    total_tokens=30,
    completion_tokens_details=CompletionTokensDetails(reasoning_tokens=0),
    prompt_tokens_details=PromptTokensDetails(cached_tokens=16),
)
_BASE_SAMPLING = Sampling(temperature=0.6, top_p=0.95, top_k=20)
_BASE = Model(
    id="Qwen/Qwen3-0.6B",
    created=_CREATED,
    root="Qwen/Qwen3-0.6B",
    parent=None,
    max_model_len=4096,
    digest=_OTHER,
    rank=None,
    state="ready",
    reason=None,
    sampling=_BASE_SAMPLING,
    system_prompt=None,
)
_ADAPTER = Model(
    id="cat",
    created=_CREATED,
    root=f"sha256:{_DIGEST}",
    parent="Qwen/Qwen3-0.6B",
    max_model_len=4096,
    digest=_DIGEST,
    rank=16,
    state="ready",
    reason=None,
    sampling=Sampling(max_tokens=100, temperature=0.3, top_p=0.8, top_k=20, repetition_penalty=1.1),
    system_prompt="你是一只猫。",
)
_SAID = ReplyMessage(content="下雨天最适合睡觉啦喵～")

ANSWERS: Mapping[str, Any] = {
    **examples_of_admin.ANSWERS,
    **examples_of_responses.ANSWERS,
    "createChatCompletion": ChatCompletion(
        id="chatcmpl-1",
        choices=[ChatChoice(message=_SAID, finish_reason="stop")],
        usage=_USAGE,
        **_NAMED,
    ),
    "createCompletion": TextCompletion(
        id="cmpl-1",
        choices=[TextChoice(index=0, text="疑是地上霜。", finish_reason="stop")],
        usage=_USAGE,
        **_NAMED,
    ),
    "tokenize": Tokenized(count=1, max_model_len=4096, tokens=[108386], token_strs=["你好"]),
    "detokenize": Detokenized(prompt="你好"),
    "loadLoraAdapter": "Success: LoRA adapter 'support' added successfully.",
    "unloadLoraAdapter": "Success: LoRA adapter 'support' removed successfully.",
    "openSession": OpenSession(name="laptop", expires=1767830400),
    "getSession": OpenSession(name="laptop", expires=1767830400),
    "listModels": ModelList(data=[_BASE, _ADAPTER]),
    "retrieveModel": _ADAPTER,
    "health": Health(status="ok"),
    "ready": Health(status="ready"),
    "version": Version(version="0.1.0"),
    "metrics": "# HELP lccc_requests_running Replies that are being computed.\n"
    "# TYPE lccc_requests_running gauge\n"
    "lccc_requests_running 3.0\n",
}


def _chat_chunk(*choices: ChunkChoice, **more: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk(id="chatcmpl-1", choices=list(choices), **_NAMED, **more)


def _text_chunk(text: str, **more: Any) -> TextCompletion:
    choice = TextChoice(index=0, text=text, **more)
    return TextCompletion(id="cmpl-1", choices=[choice], **_NAMED)


def _stream(chunks: Iterable[Struct]) -> str:
    return b"".join([*map(frame, chunks), DONE]).decode()


STREAMS: Mapping[str, str] = {
    **examples_of_responses.STREAMS,
    "createChatCompletion": _stream(
        [
            _chat_chunk(ChunkChoice(delta=ChunkDelta(role="assistant", content="")), usage=None),
            _chat_chunk(ChunkChoice(delta=ChunkDelta(content="下雨天")), usage=None),
            _chat_chunk(ChunkChoice(delta=ChunkDelta(), finish_reason="stop"), usage=None),
            _chat_chunk(usage=_USAGE),
        ]
    ),
    "createCompletion": _stream(
        [_text_chunk("疑是"), _text_chunk("地上霜。"), _text_chunk("", finish_reason="stop")]
    ),
}


# Of the refusals that many routes share.
PROBLEMS: Mapping[str, Mapping[str, Any]] = {
    "NoKey": {"no key": MISSING.envelope, "a wrong key": INVALID.envelope},
    "NoAdmin": {"a key for inference": INSUFFICIENT.envelope},
    "Unavailable": {"stopping": SHUTTING_DOWN.envelope, "no keys to be read": UNREADABLE.envelope},
}
