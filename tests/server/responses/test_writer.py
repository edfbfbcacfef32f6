"""Parts to items and events."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.replies.parts import ArgumentsPart, CallPart, ContentPart, Part, ReasoningPart
from server.responses.writer import ItemWriter
from server.wire.completions import TokenLogprob
from server.wire.response_events import (
    ArgumentsDelta,
    ArgumentsDone,
    ItemAdded,
    ItemDone,
    PartAdded,
    PartDone,
    ReasoningDelta,
    ReasoningDone,
    ResponseEvent,
    TextDelta,
    TextDone,
)
from server.wire.response_objects import (
    FunctionCallItem,
    Message,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from server.wire.responses import ItemStatus

LOGPROB = TokenLogprob(token="好", logprob=-1.0, bytes=[1], top_logprobs=[])


def written(
    parts: Iterable[Part], status: ItemStatus = "completed"
) -> tuple[list[ResponseEvent], list[OutputItem]]:
    writer = ItemWriter()
    events = [event for part in parts for event in writer.write(part)]
    return [*events, *writer.end(status)], writer.items()


def kinds(events: Iterable[ResponseEvent]) -> list[type[ResponseEvent]]:
    return [type(event) for event in events]


def test_text_is_a_message() -> None:
    """It begins empty, grows and is shown whole by each of the three events of its end."""
    events, items = written([ContentPart("床前"), ContentPart("明月光")])

    assert kinds(events) == [
        ItemAdded,
        PartAdded,
        TextDelta,
        TextDelta,
        TextDone,
        PartDone,
        ItemDone,
    ]
    (message,) = items
    assert isinstance(message, Message)
    assert (message.role, message.status) == ("assistant", "completed")
    assert message.content == [OutputText(text="床前明月光")]
    assert events[0] == ItemAdded(
        sequence_number=0,
        output_index=0,
        item=Message(id=message.id, role="assistant", status="in_progress", content=[]),
    )
    assert events[-1] == ItemDone(sequence_number=6, output_index=0, item=message)


def test_thoughts_text_and_calls_are_items_in_their_order() -> None:
    """Each ends before the next begins; a second call is an item of its own."""
    events, items = written(
        [
            ReasoningPart("想一"),
            ReasoningPart("想"),
            ContentPart("好"),
            CallPart(0, "call_0", "add"),
            ArgumentsPart(0, '{"a":'),
            ArgumentsPart(0, "1}"),
            CallPart(1, "call_1", "now"),
            ArgumentsPart(1, "{}"),
        ]
    )

    thought, message, first, second = items
    assert isinstance(thought, ReasoningItem)
    assert (thought.content, thought.summary) == ([ReasoningText(text="想一想")], [])
    assert isinstance(message, Message)
    assert isinstance(first, FunctionCallItem)
    assert (first.call_id, first.name, first.arguments) == ("call_0", "add", '{"a":1}')
    assert isinstance(second, FunctionCallItem)
    assert (second.call_id, second.name, second.arguments) == ("call_1", "now", "{}")
    assert {item.status for item in items} == {"completed"}
    assert kinds(events) == [
        *(ItemAdded, PartAdded, ReasoningDelta, ReasoningDelta, ReasoningDone, PartDone, ItemDone),
        *(ItemAdded, PartAdded, TextDelta, TextDone, PartDone, ItemDone),
        *(ItemAdded, ArgumentsDelta, ArgumentsDelta, ArgumentsDone, ItemDone),
        *(ItemAdded, ArgumentsDelta, ArgumentsDone, ItemDone),
    ]


def test_a_reply_that_is_cut_off_leaves_its_last_item_incomplete() -> None:
    """The items before it are whole."""
    events, items = written([ReasoningPart("想"), ContentPart("好")], "incomplete")

    assert [item.status for item in items] == ["completed", "incomplete"]
    assert isinstance(events[-1], ItemDone)
    assert events[-1].item == items[-1]


def test_a_reply_of_nothing_is_an_empty_message() -> None:
    """So a response always has an item, and a stream shows it."""
    events, items = written([])

    (message,) = items
    assert isinstance(message, Message)
    assert message.content == [OutputText(text="")]
    assert kinds(events)[0] == ItemAdded


def test_logprobs_belong_to_the_text_of_messages() -> None:
    """Those of the end come in a last piece without text; behind a call there is no such piece."""
    writer = ItemWriter()
    events = [*writer.write(ContentPart("好"), [LOGPROB]), *writer.end("completed", [LOGPROB] * 2)]
    shown = [(one.delta, len(one.logprobs)) for one in events if isinstance(one, TextDelta)]
    (done,) = [one for one in events if isinstance(one, TextDone)]

    assert shown == [("好", 1), ("", 2)]
    assert done.logprobs == [LOGPROB] * 3
    assert writer.items()[0] == Message(
        id=done.item_id,
        role="assistant",
        content=[OutputText(text="好", logprobs=[LOGPROB] * 3)],
    )
    called = ItemWriter()
    called.write(CallPart(0, "call", "add"))
    called.end("completed", [LOGPROB])
    assert [type(item) for item in called.items()] == [FunctionCallItem]


TEXTS = st.text("a你", min_size=1, max_size=3)
RUNS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: [ContentPart(text)]),
        TEXTS.map(lambda text: [ReasoningPart(text)]),
        st.lists(TEXTS, max_size=3).map(
            lambda texts: [CallPart(0, "call", "add"), *(ArgumentsPart(0, text) for text in texts)]
        ),
    ),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS)
def test_events_add_up_to_the_items(runs: list[list[Part]]) -> None:
    """Numbers without gaps; every delta lies between beginning and end of its own item."""
    events, items = written([part for run in runs for part in run])

    assert [event.sequence_number for event in events] == list(range(len(events)))
    grown: dict[int, str] = {}
    is_open: int | None = None
    for event in events:
        match event:
            case ItemAdded():
                assert is_open is None
                is_open = event.output_index
                assert is_open == len(grown)
                grown[is_open] = ""
            case ItemDone():
                assert event.output_index == is_open
                assert event.item == items[is_open]
                assert _text(event.item) == grown[is_open]
                is_open = None
            case TextDelta() | ReasoningDelta() | ArgumentsDelta():
                assert event.output_index == is_open
                assert event.item_id
                grown[is_open] += event.delta
    assert is_open is None
    assert len(grown) == len(items)


def _text(item: OutputItem) -> str:
    if isinstance(item, FunctionCallItem):
        return item.arguments
    return "".join(part.text for part in item.content)
