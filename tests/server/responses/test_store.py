"""Where responses are kept: what is found again, and what goes when there is no room."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.responses.ids import new_id
from server.responses.store import ResponseStore
from server.wire.completions import TokenLogprob
from server.wire.response_objects import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputText,
    Item,
    Message,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from tests.server.responses.made import answered, ids, response, said

ROOM = 10**6


def test_a_response_is_found_as_it_was_kept() -> None:
    """Every kind of item, in order, with the response itself."""
    items: list[Item] = [
        Message(id="m1", role="system", content=[InputText(text="规则")]),
        said("m2"),
        FunctionCallItem(id="c1", call_id="call_1", name="add", arguments="{}"),
        FunctionCallOutputItem(id="o1", call_id="call_1", output="3"),
        ReasoningItem(id="r1", content=[ReasoningText(text="想")]),
    ]
    whole = response("resp", answered("m3"))
    store = ResponseStore(10, ROOM)

    assert store.put(items, whole)
    kept = store.get("resp")
    assert kept is not None
    assert (kept.items, kept.response) == (items, whole)
    assert kept.conversation == [*items, *whole.output]


def test_a_conversation_goes_on_without_logprobs_and_without_calls_that_were_cut_off() -> None:
    """Nobody can answer half a call; text that was cut off was still said."""
    logprobs = [TokenLogprob(token="好", logprob=-1.0, bytes=[1], top_logprobs=[])]
    cut = FunctionCallItem(id="c", call_id="call", name="add", arguments='{"a', status="incomplete")
    text = OutputText(text="好", logprobs=logprobs)
    message = Message(id="m", role="assistant", status="incomplete", content=[text])
    store = ResponseStore(10, ROOM)
    store.put([], response("resp", message, cut))

    kept = store.get("resp")
    assert kept is not None
    assert kept.response.output == [message, cut]
    (goes_on,) = kept.conversation
    assert isinstance(goes_on, Message)
    assert goes_on.content == [OutputText(text="好")]


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    """Reading a response is a use of it, as is naming one of its items."""
    store = ResponseStore(3, ROOM)
    for name in "abc":
        store.put([said(f"in-{name}")], response(name, answered(f"out-{name}")))
    assert store.get("a")
    assert store.item("out-b")
    store.put([], response("d"))

    assert [name for name in "abcd" if store.get(name)] == ["a", "b", "d"]
    assert store.item("in-c") is None
    assert len(store) == 3


def test_the_bytes_are_bounded() -> None:
    """Many small ones go for a large one; one that is larger than all the room is not kept."""
    store = ResponseStore(100, 10_000)
    for index in range(9):
        store.put([said(str(index))], response(f"resp-{index}"))
    before = len(store)
    assert store.put([said("x", "长" * 2000)], response("large"))

    assert store.size <= 10_000
    assert len(store) < before
    assert store.get("large")
    assert not store.put([said("y", "长" * 4000)], response("too large"))
    assert store.get("too large") is None
    assert store.get("large")


def test_a_store_of_none_keeps_nothing() -> None:
    """Which it also says."""
    store = ResponseStore(0, ROOM)

    assert store.is_off
    assert not store.put([], response("resp"))
    assert store.get("resp") is None


def test_an_item_is_found_as_long_as_any_response_has_it() -> None:
    """A later response of a conversation has those of the earlier ones."""
    store = ResponseStore(10, ROOM)
    store.put([said("m1")], response("first", answered("m2")))
    first = store.get("first")
    assert first is not None
    store.put([*first.conversation, said("m3")], response("second", answered("m4")))

    assert store.delete("first")
    assert store.item("m2") == answered("m2")
    assert store.delete("second")
    assert [store.item(name) for name in ("m1", "m2", "m3", "m4")] == [None] * 4
    assert not store.delete("second")
    assert (len(store), store.size) == (0, 0)


def test_ids_cannot_be_guessed() -> None:
    """Who knows an id can read the response, so it has 192 random bits."""
    made = {new_id("resp") for _ in range(1000)}

    assert len(made) == 1000
    assert all(re.fullmatch("resp_[0-9a-f]{48}", name) for name in made)


ACTIONS = st.tuples(
    st.sampled_from(["put", "get", "delete", "item"]), st.integers(0, 9), st.integers(0, 900)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, max_size=40))
def test_the_books_always_agree(actions: list[tuple[str, int, int]]) -> None:
    """Whatever happens, no more is kept than there is room for, and every item has an owner."""
    store = ResponseStore(4, 4000)
    for number, (action, which, size) in enumerate(actions):
        name = f"resp-{which}"
        if action == "put" and store.get(name) is None:
            item = said(f"in-{which % 3}", "x" * size)
            store.put([item, item], response(name, answered(f"out-{number}")))
        elif action == "get":
            store.get(name)
        elif action == "delete":
            store.delete(name)
        else:
            store.item(f"in-{which % 3}")
        kept = [one for index in range(10) if (one := store.get(f"resp-{index}"))]
        assert len(kept) == len(store) <= 4
        assert store.size <= 4000
        assert set(store._owners) == {name for one in kept for name in ids(one.conversation)}
