"""LiteLLM with its ``openai`` provider at our address."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
from asked import QUESTION, Servers, Weather, raised, weather

MESSAGES = [{"role": "user", "content": QUESTION}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["北京", "上海"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def ask(servers: Servers, model: str, messages: list[Any] = MESSAGES, **more: Any) -> Any:
    return litellm.completion(
        model=f"openai/{model}",
        messages=messages,
        **{"api_base": servers.stage, "api_key": servers.key, "max_retries": 0} | more,
    )


def on_pocket(servers: Servers, **more: Any) -> Any:
    own = {"api_base": servers.pocket, "api_key": "none", "seed": 1, "max_tokens": 60}
    return ask(servers, "cat", **own | more)


def chat(servers: Servers) -> Any:
    reply = ask(servers, "poet")
    return {
        "text": reply.choices[0].message.content,
        "finish": reply.choices[0].finish_reason,
        "tokens": reply.usage.completion_tokens,
        "model": reply.model,
    }


def stream(servers: Servers) -> Any:
    chunks = list(ask(servers, "poet", stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return {
        "pieces": [choice.delta.content for choice in choices if choice.delta.content],
        "tokens": next(
            chunk.usage.completion_tokens for chunk in chunks if hasattr(chunk, "usage")
        ),
        "finish": next(choice.finish_reason for choice in choices if choice.finish_reason),
    }


def asynchronous(servers: Servers) -> Any:
    async def pieces() -> list[str]:
        chunks = await litellm.acompletion(
            model="openai/poet",
            messages=MESSAGES,
            api_base=servers.stage,
            api_key=servers.key,
            stream=True,
        )
        texts = [chunk.choices[0].delta.content async for chunk in chunks]
        return [text for text in texts if text]

    return asyncio.run(pieces())


def structured(servers: Servers) -> Any:
    reply = on_pocket(servers, response_format=Weather)
    return Weather.model_validate_json(reply.choices[0].message.content).model_dump()


def errors(servers: Servers) -> Any:
    return {
        "unknown model": raised(lambda: ask(servers, "nobody")),
        "out of bounds": raised(lambda: ask(servers, "poet", temperature=3)),
        "too long": raised(lambda: ask(servers, "long")),
        "full": raised(lambda: ask(servers, "busy")),
        "wrong key": raised(lambda: ask(servers, "poet", api_key="wrong")),
        "our fault": raised(lambda: ask(servers, "broken")),
        "broken stream": raised(lambda: list(ask(servers, "broken", stream=True))),
    }


def tools_loop(servers: Servers) -> Any:
    calling = ask(servers, "caller", tools=[TOOL]).choices[0]
    calls = calling.message.tool_calls
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": weather(**json.loads(call.function.arguments)),
        }
        for call in calls
    ]
    answer = ask(servers, "caller", [*MESSAGES, calling.message, *results], tools=[TOOL])
    return {
        "finish": calling.finish_reason,
        "calls": [[call.function.name, json.loads(call.function.arguments)] for call in calls],
        "answer": answer.choices[0].message.content,
    }


def tools_stream(servers: Servers) -> Any:
    chunks = list(ask(servers, "caller", tools=[TOOL], stream=True))
    whole = litellm.stream_chunk_builder(chunks)
    return [
        [call.function.name, json.loads(call.function.arguments)]
        for call in whole.choices[0].message.tool_calls
    ]


def tools_forced(servers: Servers) -> Any:
    choice = {"type": "function", "function": {"name": "weather"}}
    reply = on_pocket(
        servers, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, max_tokens=200
    )
    (call,) = reply.choices[0].message.tool_calls
    return json.loads(call.function.arguments)


def thoughts(servers: Servers) -> Any:
    message = ask(servers, "thinker", reasoning_effort="low").choices[0].message
    return {"thoughts": message.reasoning_content, "text": message.content}


def responses(servers: Servers) -> Any:
    own = {"model": "openai/poet", "api_base": servers.stage, "api_key": servers.key}
    whole = litellm.responses(input=QUESTION, **own)
    events = list(litellm.responses(input=QUESTION, stream=True, **own))
    return {
        "whole": whole.output[0].content[0].text,
        "stream": "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        ),
    }


CHECKS = {
    check.__name__: check
    for check in (
        chat,
        stream,
        asynchronous,
        structured,
        errors,
        tools_loop,
        tools_stream,
        tools_forced,
        thoughts,
        responses,
    )
}
