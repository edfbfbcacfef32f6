"""Models that always play the same part, so that every client can be told from what it made of it.

The engine is scripted, the server and its connections are real. A model's name is its part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from server.engine.errors import PromptTooLong, QueueFull
from server.engine.types import GenerationRequest
from tests.fakes import Script, ScriptedEngine, ScriptedGeneration, card

KEY = "sk-stage"
WEATHER = "晴，25 度"  # what the clients' weather function returns begins so
POEM = Script(pieces=("床前", "明月光"))
CALL = Script(
    pieces=("<tool_call>", '\n{"name": "weather", "arguments"', ': {"city": "北京"}}\n</tool_call>')
)
ANSWER = Script(pieces=("北京", WEATHER))
THOUGHT = Script(pieces=("<think>\n想一", "想\n</think>\n\n", "好"))

PARTS: Mapping[str, Callable[[str], Script]] = {
    "base": lambda _: POEM,
    "poet": lambda _: POEM,
    "caller": lambda prompt: ANSWER if WEATHER in prompt else CALL,
    "thinker": lambda _: THOUGHT,
    "busy": lambda _: Script(refusal=QueueFull(64, 1.0)),
    "long": lambda _: Script(refusal=PromptTooLong(5000, None, 4096)),
    "broken": lambda _: Script(pieces=("床前", "明月光"), fail_at=1),
}


@dataclass
class Stage(ScriptedEngine):
    """An engine whose models play :data:`PARTS`, whatever the order of the requests."""

    cards: list = field(
        default_factory=lambda: [card(name, None if name == "base" else "base") for name in PARTS]
    )

    async def submit(self, request: GenerationRequest) -> ScriptedGeneration:
        part = PARTS.get(request.model, lambda _: POEM)
        self._scripts, self._next = [part(self.decode(request.prompt))], 0
        return await super().submit(request)
