"""Streaming text: whole characters, no piece of a stop string, and nothing lost or invented."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.text import Detokenizer, Reply, StopFinder, ThoughtFinder
from server.engine.types import Thought

BYTES = [bytes([value]) for value in range(256)]

chinese = st.text(alphabet="你好世界，。！ab é🙂", max_size=30)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(chinese, st.lists(st.integers(0, 200)))
def test_pieces_of_any_size_add_up_to_the_text(text: str, cuts: list[int]) -> None:
    """Wherever tokens cut the bytes, the deltas joined are the text, and none has U+FFFD."""
    pieces = split(text.encode(), cuts)
    reply = Reply(Detokenizer(pieces))
    deltas = [reply.feed(index) for index in range(len(pieces))]
    assert "�" not in "".join(deltas)
    assert "".join([*deltas, reply.finish()]) == text


@given(st.binary(max_size=40))
def test_any_bytes_add_up_to_their_lossy_decoding(data: bytes) -> None:
    """What is no UTF-8 becomes U+FFFD exactly where a decoder of the whole would put it."""
    reply = Reply(Detokenizer(BYTES))
    deltas = [reply.feed(byte) for byte in data]
    assert "".join([*deltas, reply.finish()]) == data.decode("utf-8", "replace")


def test_a_character_is_shown_with_its_last_byte() -> None:
    """Half of a character is nothing, not a sign of damage; cut off at the end it is damage."""
    detokenizer = Detokenizer(BYTES)
    assert [detokenizer.feed(byte) for byte in "你".encode()] == ["", "", "你"]
    assert [detokenizer.feed(byte) for byte in "好".encode()[:2]] == ["", ""]
    assert detokenizer.finish() == "�"


def test_tokens_without_text_are_silent() -> None:
    """Control tokens have no bytes, and a padded vocabulary has tokens that nobody knows."""
    detokenizer = Detokenizer([b"a", b""])
    assert [detokenizer.feed(token) for token in (0, 1, 2, 99, 0)] == ["a", "", "", "", "a"]


def test_the_first_space_goes_where_the_tokenizer_says_so() -> None:
    """SentencePiece puts a space before the first word; later spaces are the reply's own."""
    detokenizer = Detokenizer([b" a", b""], strips_first_space=True)
    assert [detokenizer.feed(token) for token in (1, 0, 0)] == ["", "a", " a"]


@given(
    st.text(alphabet="abc", max_size=40),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 200)),
)
def test_text_is_cut_before_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    """However the text arrives, what is shown ends where some stop string first completes."""
    finder = StopFinder(stops)
    shown = ""
    for piece in split(text.encode(), cuts):
        shown += finder.feed(piece.decode())
        assert not any(stop in shown for stop in stops)
    shown += finder.finish()
    first = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert finder.is_found == bool(first)
    if not first:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert any(text.startswith(stop, len(shown)) for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["ab", "c<e", "nd>x", "y"], ["ab", "c", "", ""]),
        (["a<", "b<en", "c"], ["a", "<b", "<enc"]),
        (["<<end>"], ["<"]),
    ],
)
def test_what_may_become_a_stop_string_is_held_back(pieces: list[str], shown: list[str]) -> None:
    """Text is held only as long as it may still be the stop string's beginning."""
    finder = StopFinder(["<end>"])
    assert [finder.feed(piece) for piece in pieces] == shown


def test_held_text_is_shown_at_the_end() -> None:
    """A beginning of a stop string that never came is part of the reply."""
    reply = Reply(Detokenizer([b"a", b"<e"]), ["<end>"])
    assert [reply.feed(0), reply.feed(1), reply.finish()] == ["a", "", "<e"]
    assert not reply.is_stopped


def test_the_first_tokens_are_not_searched() -> None:
    """Neither a stop string in them nor one that begins in them ends the reply."""
    reply = Reply(Detokenizer([b"a", b"b", b"c"]), ["ab", "bc"], min_tokens=4)
    assert [reply.feed(token) for token in (0, 1, 0, 1, 2)] == ["a", "b", "a", "b", "c"]
    assert not reply.is_stopped
    assert [reply.feed(token) for token in (0, 1)] == ["", ""]
    assert reply.is_stopped


def test_a_stop_string_completed_by_the_last_flush_is_found() -> None:
    """Also when its last character is only decoded at the end."""
    reply = Reply(Detokenizer(BYTES), ["a�"])
    assert [reply.feed(byte) for byte in b"xa\xe4"] == ["x", "", ""]
    assert reply.finish() == ""
    assert reply.is_stopped


@pytest.mark.parametrize("thought", ["none", "possible", "open"])
@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "嗯", "."])).map("".join),
    cuts=st.lists(st.integers(0, 99)),
)
def test_a_thought_and_the_rest_add_up(thought: Thought, text: str, cuts: list[int]) -> None:
    """Wherever the text is cut, the two are the same, and each character is in one of them."""
    whole = ThoughtFinder(thought)
    both = (whole.feed(text), whole.finish())
    expected = ["".join(parts) for parts in zip(*both, strict=True)]

    finder = ThoughtFinder(thought)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    told = [*map(finder.feed, pieces), finder.finish()]
    assert ["".join(parts) for parts in zip(*told, strict=True)] == expected
    assert "".join(expected) == text


@pytest.mark.parametrize(
    ("thought", "text", "shown"),
    [
        ("open", "a。b</think>c。d", "a。b</think>c"),
        ("open", "a。b", "a。b"),
        ("possible", "<think>a。b</think>c。d", "<think>a。b</think>c"),
        ("possible", "a。b</think>c", "a"),
        ("none", "<think>a。b</think>", "<think>a"),
    ],
)
def test_stop_strings_are_for_what_follows_a_thought(
    thought: Thought, text: str, shown: str
) -> None:
    """A thought has sentences and lines too."""
    reply = Reply(Detokenizer(BYTES), ["。"], thought=thought)
    deltas = [reply.feed(byte) for byte in text.encode()]

    assert "".join([*deltas, reply.finish()]) == shown
    assert reply.is_stopped == (shown != text)


def test_the_end_of_a_thought_is_no_part_of_a_stop_string() -> None:
    """A stop string begins behind it."""
    reply = Reply(Detokenizer(BYTES), ["k>a", "ab"], thought="open")
    deltas = [reply.feed(byte) for byte in b"x</think>ab"]

    assert "".join([*deltas, reply.finish()]) == "x</think>"
