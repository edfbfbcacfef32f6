"""From the parts of a reply to a response, where one event of the engine brings several."""

from __future__ import annotations

from server.engine.types import GenerationRequest, TokenLogprobs
from server.replies.parts import ContentPart, ReasoningPart
from server.replies.reply import Answer
from server.responses.reply import ResponseReply
from server.wire.response_events import TextDelta
from tests.fakes import Script, ScriptedEngine, ScriptedGeneration
from tests.server.responses.made import response


def test_logprobs_of_a_text_are_not_lost_to_the_thoughts_before_it() -> None:
    """The end of a thought and the beginning of the text may come together."""
    engine = ScriptedEngine()
    request = GenerationRequest(id="r", model="poet", prompt=())
    answer = Answer(
        id="r",
        model="poet",
        generations=[ScriptedGeneration(engine, request, Script(), "digest")],
        piece=engine.piece,
        has_logprobs=True,
    )
    reply = ResponseReply(answer, response("r"), lambda _: True)
    (choice,) = reply.choices
    choice.logprobs.append(TokenLogprobs(97, -1.0))

    reply.part_frames(choice, ReasoningPart("想"))
    *_, delta = reply.part_frames(choice, ContentPart("a"))
    assert isinstance(delta, TextDelta)
    assert [one.token for one in delta.logprobs] == ["a"]
