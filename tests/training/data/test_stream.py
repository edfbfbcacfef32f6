"""JSON values out of a stream whose blocks end anywhere."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import stream
from training.data.stream import JsonText, Malformed, json_kind, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def text_of(content: str) -> JsonText:
    return JsonText(io.BufferedReader(io.BytesIO(content.encode())))


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 30), st.booleans())
def test_any_value_is_read_whole(values: list[object], chunk: int, ascii_only: bool) -> None:
    """Numbers and literals too, cut or not, one after the other."""
    content = " ".join(json.dumps(value, ensure_ascii=ascii_only) for value in values) + "\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_BYTES", chunk)
        text = text_of(content)
        assert [text.value() for _ in values] == values
        assert text.next_character() == ""


def test_a_value_may_end_with_the_stream() -> None:
    """A number has no mark of its end but the end of the text."""
    assert text_of("12").value() == 12


def test_the_next_character_is_only_looked_at() -> None:
    """Until it is taken or expected."""
    text = text_of("  [ x")
    assert (text.next_character(), text.next_character()) == ("[", "[")
    assert not text.take("]")
    assert text.take("[")
    with pytest.raises(Malformed, match="expected ',' or ']', but found 'x'"):
        text.expect_either(",", "]")
    text.expect("x")
    with pytest.raises(Malformed, match="expected 'y', but the file ends"):
        text.expect("y")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", "an object"), ("[]", "a list"), ('""', "a string"), ("0", "a number"),
     ("-1e9", "a number"), ("false", "a boolean"), ("null", "null")],
)  # fmt: skip
def test_kinds_are_called_as_json_calls_them(text: str, kind: str) -> None:
    """For messages to people who know JSON and not Python."""
    assert json_kind(parse(text)) == kind
