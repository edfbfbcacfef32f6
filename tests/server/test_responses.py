"""``/v1/responses``: its answers, its events, its parameters, and what is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import openai
import pytest
from litestar.testing import TestClient

from adapters.manifest import SamplingDefaults
from server.app import create_app
from server.engine.errors import PromptTooLong, QueueFull, SamplingInvalid
from server.engine.types import TokenLogprobs
from server.settings import ServerSettings
from tests.fakes import Script, ScriptedEngine, card
from tests.server.responses.asking import PATH, events, made, play, post, refused, sdk
from tests.server.responses.shapes import checked_response

LOGPROBS = (
    TokenLogprobs(97, -0.5, ((97, -0.5), (98, -1.5))),
    TokenLogprobs(0, -2.0, ((0, -2.0), (98, -3.0))),
)


def restarted(settings: ServerSettings, engine: ScriptedEngine, **changes: Any) -> TestClient[Any]:
    """A client of a server with other settings, to be started."""
    app = create_app(msgspec.structs.replace(settings, **changes), engine=engine)
    return TestClient(app, base_url="http://127.0.0.1")


def test_a_whole_response(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Text, status and usage; every field of OpenAI's shape and no other."""
    play(engine, Script(pieces=("床前", "明月光"), cached_tokens=4))
    response = checked_response(made(client))

    assert response.output_text == "床前明月光"
    assert (response.status, response.error) == ("completed", None)
    assert response.incomplete_details is None
    assert response.completed_at is not None
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert (response.usage.input_tokens, response.usage.output_tokens) == (6, 2)
    assert response.usage.total_tokens == 8


def test_a_response_tells_what_it_was_asked_with(client: TestClient[Any]) -> None:
    """What the request said, and the defaults for what it left open."""
    given: dict[str, Any] = {
        "instructions": "你是诗人。",
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "metadata": {"topic": "月"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "user": "u",
        "temperature": 0.5,
        "top_p": 0.9,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    }
    plain, full = made(client), made(client, **given)

    assert full | given == full
    assert (plain["temperature"], plain["top_p"], plain["tool_choice"]) == (1.0, 1.0, "auto")
    assert plain["text"]["format"] == {"type": "text"}
    assert plain["parallel_tool_calls"] is True
    assert plain["background"] is False
    assert plain["store"] is True
    assert (plain["service_tier"], plain["truncation"]) == ("default", "disabled")
    assert (plain["tools"], plain["metadata"], plain["top_logprobs"]) == ([], {}, 0)


def test_a_response_tells_the_models_own_defaults(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """They hold for what a request leaves open, and for nothing else."""
    sampling = SamplingDefaults(temperature=0.3, top_p=0.8, max_tokens=100)
    engine.cards = [card("base"), card("poet", "base", sampling=sampling)]
    plain, asked = made(client), made(client, temperature=0, top_p=1, max_output_tokens=5)

    names = ("temperature", "top_p", "max_output_tokens")
    assert [plain[name] for name in names] == [0.3, 0.8, 100]
    assert [asked[name] for name in names] == [0, 1, 5]


def test_a_stream_has_openais_events(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """From ``created`` to ``completed`` by number, without ``[DONE]``."""
    play(engine, Script(pieces=("床前", "", "明月光")))
    found = events(client)

    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    begun, ended = found[0]["response"], found[-1]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    assert found[1]["response"] == begun
    assert ended["output"] == [found[-2]["item"]]
    grown = {"status", "output", "usage", "completed_at"}
    assert {name for name in begun if begun[name] != ended[name]} == grown
    assert checked_response(ended).output_text == "床前明月光"


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_response_without_room_is_incomplete(
    client: TestClient[Any], engine: ScriptedEngine, is_streamed: bool
) -> None:
    """It says why, its last item too, and it is kept: one can go on from it."""
    play(engine, Script(pieces=("床", "前"), reason="length"), Script())
    if is_streamed:
        last = events(client, max_output_tokens=2)[-1]
        assert last["type"] == "response.incomplete"
        response = last["response"]
    else:
        response = made(client, max_output_tokens=2)
    made(client, previous_response_id=response["id"])

    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["completed_at"] is None
    assert response["output"][0]["status"] == "incomplete"
    assert engine.requests[0].sampling.max_tokens == 2
    assert engine.prompts[1][1] == {"role": "assistant", "content": "床前"}


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_stream_that_breaks_off_fails(
    client: TestClient[Any], engine: ScriptedEngine, fail_at: int
) -> None:
    """The last event says why; what was said so far is in it, and nothing is kept."""
    play(engine, Script(pieces=("a", "b"), fail_at=fail_at))
    found = events(client)

    last = found[-1]["response"]
    assert (found[-1]["type"], last["status"]) == ("response.failed", "failed")
    assert last["error"] == {"code": "server_error", "message": "The scripted failure."}
    assert [item["content"][0]["text"] for item in last["output"]] == ["a"] * fail_at
    assert {item["status"] for item in last["output"]} <= {"incomplete"}
    assert last["store"] is False
    assert client.get(f"{PATH}/{last['id']}").status_code == 404
    assert refused(client) == (500, None, "generation_failed")


def test_a_response_of_nothing_is_an_empty_message(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Whole or streamed."""
    play(engine, Script(pieces=()))

    for response in (made(client), events(client)[-1]["response"]):
        (message,) = response["output"]
        assert message["content"] == [
            {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        ]


def test_logprobs_are_included_on_request(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """The same whole and streamed, up to tokens without a text; none unless they are included."""
    play(engine, Script(pieces=("a", ""), logprobs=LOGPROBS))
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole, found, bare = made(client, **wanted), events(client, **wanted), made(client)

    shown = whole["output"][0]["content"][0]["logprobs"]
    assert [(one["token"], one["logprob"]) for one in shown] == [("a", -0.5), ("<end>", -2.0)]
    assert [one["token"] for one in shown[0]["top_logprobs"]] == ["a", "b"]
    deltas = [one for event in found for one in event.get("logprobs", ()) if "delta" in event]
    assert deltas == shown
    assert found[-1]["response"]["output"][0]["content"][0]["logprobs"] == shown
    assert whole["top_logprobs"] == 2
    assert bare["output"][0]["content"][0]["logprobs"] == []
    assert [request.sampling.logprobs for request in engine.requests] == [2, 2, None]


def test_parameters_reach_the_engine(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """OpenAI's under their names here, and our own as in a chat."""
    own = {"top_k": 5, "min_p": 0.1, "seed": 7, "stop": "。", "repetition_penalty": 1.1}
    made(client, temperature=0.5, top_p=0.8, max_output_tokens=9, **own)

    how = engine.requests[0].sampling
    assert (how.temperature, how.top_p, how.max_tokens) == (0.5, 0.8, 9)
    assert (how.top_k, how.min_p, how.seed, how.stop) == (5, 0.1, 7, ("。",))
    assert how.repetition_penalty == 1.1


@pytest.mark.parametrize(
    ("wanted", "schemas"),
    [
        (None, []),
        ({"type": "text"}, []),
        ({"type": "json_object"}, [{"type": "object"}]),
        ({"type": "json_schema", "name": "a", "schema": {"type": "null"}}, [{"type": "null"}]),
    ],
    ids=str,
)
def test_what_each_format_asks_of_the_engine(
    client: TestClient[Any], engine: ScriptedEngine, wanted: Any, schemas: list[Any]
) -> None:
    """Text asks for nothing."""
    made(client, text={"format": wanted})

    assert [shape.schema for shape in engine.shapes] == schemas


def test_instructions_and_items_become_one_conversation(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Instructions first, parts joined, ``developer`` as ``system``."""
    items = [
        {"role": "developer", "content": "押韵。"},
        {"role": "user", "content": [{"type": "input_text", "text": text} for text in "一二"]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "好"}]},
        {"type": "message", "role": "user", "content": "三"},
    ]
    made(client, input=items, instructions="你是诗人。")

    (prompt,) = engine.prompts
    assert [(message["role"], message["content"]) for message in prompt] == [
        ("system", "你是诗人。"),
        ("system", "押韵。"),
        ("user", "一\n二"),
        ("assistant", "好"),
        ("user", "三"),
    ]


def test_a_conversation_goes_on_by_id(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """With all turns before, of which the instructions are not; whole or streamed."""
    play(engine, Script(pieces=("一",)), Script(pieces=("二",)), Script())
    first = made(client, input="1", instructions="数数。")
    second = events(client, input="2", previous_response_id=first["id"])[-1]["response"]
    last = {"input": "3", "previous_response_id": second["id"], "instructions": "倒数。"}
    third = made(client, model="base", **last)

    assert (second["previous_response_id"], second["instructions"]) == (first["id"], None)
    assert third["previous_response_id"] == second["id"]
    turns = [("user", "1"), ("assistant", "一"), ("user", "2"), ("assistant", "二"), ("user", "3")]
    said = [{"role": role, "content": content} for role, content in turns]
    assert engine.prompts[1] == said[:3]
    assert engine.prompts[2] == [{"role": "system", "content": "倒数。"}, *said]


def test_an_answer_can_be_sent_back(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """``response.output`` is input as it stands, from the client's objects and from JSON."""
    play(engine, Script(pieces=("一",)), Script())
    first = sdk(client).responses.create(model="poet", input="1", store=False)
    user: Any = {"role": "user", "content": "2"}
    back: Any = [*first.output, user]
    sdk(client).responses.create(model="poet", input=back)
    made(client, input=[*(item.to_dict() for item in first.output), user])

    assert engine.prompts[1:] == [[{"role": "assistant", "content": "一"}, user]] * 2


def test_a_kept_response_is_read_and_deleted(client: TestClient[Any]) -> None:
    """As it was answered; a deleted one cannot be gone on from, but those after it can."""
    first = made(client)
    second = made(client, previous_response_id=first["id"])
    url = f"{PATH}/{first['id']}"
    again, gone, twice = client.get(url), client.delete(url), client.delete(url)

    assert again.json() == first
    assert gone.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert (twice.status_code, client.get(url).status_code) == (404, 404)
    assert refused(client, previous_response_id=first["id"]) == (
        *(400, "previous_response_id"),
        "previous_response_not_found",
    )
    made(client, previous_response_id=second["id"])


def test_what_is_not_to_be_stored_is_not(
    settings: ServerSettings, client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Whole or streamed; and nothing is on a server that keeps none, which says so."""
    for response in (made(client, store=False), events(client, store=False)[-1]["response"]):
        assert response["store"] is False
        assert client.get(f"{PATH}/{response['id']}").status_code == 404
    with restarted(settings, ScriptedEngine(), max_stored_responses=0) as none:
        response = made(none)
        assert response["store"] is False
        assert none.get(f"{PATH}/{response['id']}").status_code == 404


def test_no_more_is_kept_than_there_is_room_for(settings: ServerSettings) -> None:
    """The oldest go; what is too large for all the room says that it is not kept."""
    engine = ScriptedEngine(scripts=[Script(pieces=("x" * 1000,)), Script()])
    with restarted(settings, engine, max_stored_bytes=6000) as client:
        names = [made(client)["id"] for _ in range(6)]
        found = [client.get(f"{PATH}/{name}").status_code for name in names]
        large = made(client, input="x" * 7000)
        streamed = events(client, input="x" * 7000)
        assert client.get(f"{PATH}/{large['id']}").status_code == 404

    assert (found[0], found[-1]) == (404, 200)
    assert large["store"] is False
    assert (streamed[0]["response"]["store"], streamed[-1]["response"]["store"]) == (True, False)


def test_input_items_come_in_pages(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """All since the conversation began, the newest first, as the client's pages follow them."""
    play(engine, Script(pieces=("一",)), Script())
    first = made(client, input="1")["id"]
    items = [{"role": "user", "content": str(number)} for number in range(2, 6)]
    second = made(client, input=items, previous_response_id=first)["id"]
    own = sdk(client).responses.input_items
    listed: list[Any] = list(own.list(second, limit=2))
    page = client.get(f"{PATH}/{second}/input_items?limit=2").json()

    assert [item.content[0].text for item in listed] == ["5", "4", "3", "2", "一", "1"]
    assert [item.role for item in listed[-2:]] == ["assistant", "user"]
    assert list(own.list(second, order="asc")) == listed[::-1]
    assert (page["first_id"], page["last_id"]) == (listed[0].id, listed[1].id)
    assert (page["object"], page["has_more"]) == ("list", True)
    whole = client.get(f"{PATH}/{second}/input_items?limit=6").json()
    assert (len(whole["data"]), whole["has_more"]) == (6, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")],
)
def test_a_page_that_cannot_be_is_refused(client: TestClient[Any], query: str, param: str) -> None:
    """By the parameter's name; a response that is not kept has no pages."""
    url = f"{PATH}/{made(client)['id']}/input_items?{query}"
    error = client.get(url).json()["error"]

    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert client.get(f"{PATH}/resp_x/input_items").status_code == 404


def test_an_item_of_a_kept_response_can_be_named(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """By its id, with or without its type, and once; one that is not kept is not found."""
    play(engine, Script(pieces=("一",)), Script())
    first = made(client, input="1")
    name = first["output"][0]["id"]
    user = {"role": "user", "content": "2"}
    made(client, input=[{"type": "item_reference", "id": name}, user])
    made(client, input=[{"id": name}, user])

    assert [each["content"] for each in engine.prompts[2]] == ["一", "2"]
    assert engine.prompts[1] == engine.prompts[2]
    assert refused(client, input=[user, {"id": "msg_x"}]) == (404, "input[1].id", None)
    assert refused(client, input=[{"id": name}, {"id": name}]) == (400, "input[1].id", None)
    assert refused(client, input=[{"id": name}], previous_response_id=first["id"]) == (
        *(400, "input[0].id"),
        None,
    )


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (PromptTooLong(9000, 100, 4096), (400, "input", "context_length_exceeded")),
        (QueueFull(64, 1.0), (429, None, "queue_full")),
        (SamplingInvalid("logit_bias", "x"), (400, "logit_bias", None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_has_a_status_and_the_names_of_this_api(
    client: TestClient[Any], engine: ScriptedEngine, refusal: Exception, expected: Any
) -> None:
    """Also of a stream, which has not begun."""
    play(engine, Script(refusal=refusal))

    assert refused(client) == refused(client, stream=True) == expected
    assert " max_tokens" not in post(client).json()["error"]["message"]


def test_an_unknown_model_is_not_found(client: TestClient[Any]) -> None:
    """Never the base instead; the official client raises its own classes."""
    assert refused(client, model="nobody") == (404, "model", "model_not_found")
    with pytest.raises(openai.NotFoundError) as caught:
        sdk(client).responses.retrieve("resp_x")
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk(client).responses.create(model="poet", input="1", previous_response_id="resp_x")

    assert caught.value.type == "invalid_request_error"
    assert refusal.value.code == "previous_response_not_found"


def test_what_is_not_understood_is_named_in_a_header(client: TestClient[Any]) -> None:
    """Beside the headers that tell which adapter answered."""
    response, base = post(client, colour="red"), post(client, model="base")

    assert response.headers["x-ignored-parameters"] == "colour"
    assert response.headers["x-adapter-id"] == "poet"
    assert response.headers["x-request-id"]
    assert "x-adapter-id" not in base.headers


def test_a_response_that_has_ended_is_not_streamed_again(client: TestClient[Any]) -> None:
    """``stream`` of a kept one is refused by name, and nothing else is in its place."""
    url = f"{PATH}/{made(client)['id']}"
    refusal = client.get(url, params={"stream": "true"})

    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "stream")
    assert client.get(url, params={"stream": "false"}).status_code == 200


TURNS = [
    {"role": role, "content": name * 10}
    for role, name in zip(["user", "assistant"] * 3, "abcdef", strict=True)
]
LONG = [{"role": "system", "content": "s"}, *TURNS, {"role": "user", "content": "z"}]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "sabcdefz"),  # it fits, if only just
        ({"max_output_tokens": 3}, "scdefz"),
        ({"max_output_tokens": 41}, "sefz"),
        ({"max_output_tokens": 60}, "sz"),
        ({"input": [*LONG[:-1], {"role": "user", "content": "zz"}]}, "scdefz"),
        ({"instructions": "i", "max_output_tokens": 20}, "iscdefz"),
    ],
    ids=str,
)
def test_a_conversation_that_is_too_long_loses_its_oldest_turns(
    client: TestClient[Any], engine: ScriptedEngine, fields: dict[str, Any], shown: str
) -> None:
    """As few as it takes to have room for the reply; the system prompt and the last turn stay."""
    engine.cards = [card("poet", context_length=63)]
    response = made(client, **({"input": LONG, "truncation": "auto"} | fields))

    *_, prompt = engine.prompts
    assert "".join(message["content"][0] for message in prompt) == shown
    assert response["truncation"] == "auto"


def test_what_was_left_out_is_kept(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """A model with a longer context may go on from all of it."""
    engine.cards = [card("poet", context_length=63), card("long")]
    first = made(client, input=LONG, truncation="auto", max_output_tokens=41)
    made(client, model="long", input="y", previous_response_id=first["id"])

    *_, prompt = engine.prompts
    assert len(prompt) == len(LONG) + 2


def test_what_cannot_be_left_out_is_refused(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """A last turn that is too long alone, and anything too long without ``truncation``."""
    play(engine, Script(refusal=PromptTooLong(99, None, 63)))
    engine.cards = [card("poet", context_length=63)]
    wanted = (400, "input", "context_length_exceeded")

    assert refused(client, input="a" * 99, truncation="auto") == wanted
    assert refused(client, input=[*LONG, *LONG], truncation="disabled") == wanted
    *_, prompt = engine.prompts
    assert len(prompt) == 2 * len(LONG)


def test_a_summary_of_thoughts_may_be_none(client: TestClient[Any]) -> None:
    """``auto`` asks for whatever there is, and is told back."""
    response = made(client, reasoning={"effort": "low", "summary": "auto"})

    assert response["reasoning"] == {"effort": "low", "summary": "auto"}
