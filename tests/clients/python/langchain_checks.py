"""LangChain's ``ChatOpenAI``."""

from __future__ import annotations

import asyncio
from typing import Any

from asked import QUESTION, Servers, Weather, raised, weather
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def on_stage(servers: Servers, model: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=servers.stage, api_key=servers.key, max_retries=0, **more
    )


def on_pocket(servers: Servers) -> ChatOpenAI:
    return ChatOpenAI(
        model="cat", base_url=servers.pocket, api_key="none", max_retries=0, seed=1, max_tokens=200
    )


def chat(servers: Servers) -> Any:
    reply = on_stage(servers, "poet").invoke([("system", "你是诗人。"), ("user", QUESTION)])
    return {
        "text": reply.content,
        "finish": reply.response_metadata["finish_reason"],
        "tokens": reply.usage_metadata["output_tokens"],
        "model": reply.response_metadata["model_name"],
    }


def stream(servers: Servers) -> Any:
    chunks = list(on_stage(servers, "poet", stream_usage=True).stream(QUESTION))
    whole = sum(chunks[1:], chunks[0])
    return {
        "pieces": [chunk.content for chunk in chunks if chunk.content],
        "tokens": whole.usage_metadata["output_tokens"],
        "finish": whole.response_metadata["finish_reason"],
    }


def asynchronous(servers: Servers) -> Any:
    async def pieces() -> list[str]:
        chunks = on_stage(servers, "poet").astream(QUESTION)
        return [chunk.content async for chunk in chunks if chunk.content]

    return asyncio.run(pieces())


def structured(servers: Servers) -> Any:
    return on_pocket(servers).with_structured_output(Weather).invoke(QUESTION).model_dump()


def logprobs(servers: Servers) -> Any:
    reply = on_pocket(servers).bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    return [len(entry["top_logprobs"]) for entry in reply.response_metadata["logprobs"]["content"]]


def errors(servers: Servers) -> Any:
    stranger = ChatOpenAI(model="poet", base_url=servers.stage, api_key="wrong", max_retries=0)
    return {
        "unknown model": raised(lambda: on_stage(servers, "nobody").invoke(QUESTION)),
        "out of bounds": raised(lambda: on_stage(servers, "poet", temperature=3).invoke(QUESTION)),
        "too long": raised(lambda: on_stage(servers, "long").invoke(QUESTION)),
        "full": raised(lambda: on_stage(servers, "busy").invoke(QUESTION)),
        "wrong key": raised(lambda: stranger.invoke(QUESTION)),
        "our fault": raised(lambda: on_stage(servers, "broken").invoke(QUESTION)),
        "broken stream": raised(lambda: list(on_stage(servers, "broken").stream(QUESTION))),
    }


def tools_loop(servers: Servers) -> Any:
    tells = tool(weather)
    model = on_stage(servers, "caller").bind_tools([tells])
    question = HumanMessage(QUESTION)
    calling = model.invoke([question])
    results = [tells.invoke(call) for call in calling.tool_calls]
    answer = model.invoke([question, calling, *results])
    return {
        "finish": calling.response_metadata["finish_reason"],
        "calls": [[call["name"], call["args"]] for call in calling.tool_calls],
        "results": [isinstance(result, ToolMessage) for result in results],
        "answer": answer.content,
    }


def tools_stream(servers: Servers) -> Any:
    model = on_stage(servers, "caller").bind_tools([tool(weather)])
    whole: AIMessageChunk | None = None
    for chunk in model.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return [[call["name"], call["args"]] for call in whole.tool_calls]


def tools_forced(servers: Servers) -> Any:
    model = on_pocket(servers).with_structured_output(Weather, method="function_calling")
    return model.invoke(QUESTION).model_dump()


def responses(servers: Servers) -> Any:
    model = on_stage(servers, "poet", use_responses_api=True)
    tells = tool(weather)
    caller = on_stage(servers, "caller", use_responses_api=True).bind_tools([tells])
    calling = caller.invoke(QUESTION)
    results = [tells.invoke(call) for call in calling.tool_calls]
    return {
        "whole": model.invoke(QUESTION).text,
        "stream": "".join(chunk.text for chunk in model.stream(QUESTION)),
        "calls": [[call["name"], call["args"]] for call in calling.tool_calls],
        "answer": caller.invoke([HumanMessage(QUESTION), calling, *results]).text,
    }


CHECKS = {
    check.__name__: check
    for check in (
        chat,
        stream,
        asynchronous,
        structured,
        logprobs,
        errors,
        tools_loop,
        tools_stream,
        tools_forced,
        responses,
    )
}
