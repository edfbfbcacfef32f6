"""Encoded splits on disk: what comes back is what was written, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data.encoded import Encoded
from training.data.example import Cut, EncodeReport, Example
from training.data.tokens import KEPT, TokenWriter, open_tokens, tokens_key
from training.errors import DataError

EXAMPLE = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1).flatmap(
    lambda pairs: st.builds(
        Example,
        ids=st.just([token for token, _ in pairs]),
        is_target=st.just([flag for _, flag in pairs]),
        cut=st.sampled_from(Cut),
        dropped=st.integers(0, 60_000),
        characters=st.integers(0, 2**32 - 1),
    )
)
DIALOGUES = st.lists(st.lists(EXAMPLE, max_size=3), max_size=4)


def dialogue(number: int) -> list[Example]:
    return [Example([number, 7], [False, True], characters=1)]


def writing(*parts: list[list[Example]]) -> Callable[[TokenWriter], None]:
    def make(writer: TokenWriter) -> None:
        for part in parts:
            writer.write(Encoded.of(part), len(part))

    return make


def never(writer: TokenWriter) -> None:
    raise AssertionError("made again")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(parts=st.lists(DIALOGUES, max_size=3))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[list[Example]]]
) -> None:
    """Dialogue by dialogue, without those that have nothing to learn; and counted as a whole."""
    everything = [each for part in parts for each in part]
    files = open_tokens(tmp_path_factory.mktemp("d") / "tokens", {"a": 1}, writing(*parts))
    assert files[:] == [each for each in everything if each]
    assert files.report == EncodeReport.over(everything)
    flat = [example for each in everything for example in each]
    assert files.examples()[:] == flat
    assert files.examples().characters == sum(example.characters for example in flat)
    assert files.lengths().tolist() == [len(example.ids) for example in flat]


def test_parts_can_be_taken(tmp_path: Path) -> None:
    """By index from either end, and the first dialogues' examples alone."""
    made = [dialogue(1), [], dialogue(2) + dialogue(3), dialogue(4)]
    files = open_tokens(tmp_path / "tokens", {}, writing(made))
    assert len(files) == 3
    assert files[1] == dialogue(2) + dialogue(3)
    assert files[-1] == dialogue(4)
    with pytest.raises(IndexError):
        files[3]
    first = files.examples(2)
    assert (len(first), first.characters) == (3, 3)
    assert first[-1] == dialogue(3)[0]
    assert first[1:] == dialogue(2) + dialogue(3)
    with pytest.raises(IndexError):
        first[3]
    assert len(files.examples(0)) == 0
    assert len(files.examples(99)) == 4


def test_equal_content_is_made_once(tmp_path: Path) -> None:
    """And other content beside it; neither ever reads the other's."""
    root = tmp_path / "tokens"
    one = open_tokens(root, {"a": 1, "b": [2]}, writing([dialogue(1)]))
    other = open_tokens(root, {"a": 1, "b": [3]}, writing([dialogue(2)]))
    again = open_tokens(root, {"b": [2], "a": 1}, never)
    assert (one[0], other[0], again[0]) == (dialogue(1), dialogue(2), dialogue(1))


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    """After the last part that was whole, or that was made sure of before a crash."""

    def stopping(writer: TokenWriter) -> None:
        writer.write(Encoded.of([dialogue(1), [], dialogue(2)]), 3)
        writer.keep()
        writer.write(Encoded.of([dialogue(3)]), 1)
        if is_killed:
            monkeypatch.setattr(writer, "keep", lambda: None)
        writer._files[0].write(b"half of the next")
        raise Stopped

    root = tmp_path / "tokens"
    with pytest.raises(Stopped):
        open_tokens(root, {}, stopping)
    assert not (root / tokens_key({})).exists()
    begun: list[int] = []

    def going_on(writer: TokenWriter) -> None:
        begun.append(writer.read)
        for number in range(writer.read, 5):
            writer.write(Encoded.of([dialogue(number)]), 1)

    files = open_tokens(root, {}, going_on)
    assert begun == [3 if is_killed else 4]
    rest = [dialogue(3), dialogue(4)]
    assert files[:] == [dialogue(1), dialogue(2), *rest]
    assert files.report.dialogues == 5
    assert sorted(path.name for path in root.iterdir()) == [".lock", tokens_key({})]


@pytest.mark.parametrize("damage", ["cut", "manifest", "missing"])
def test_damaged_tokens_are_made_again(tmp_path: Path, damage: str) -> None:
    """Files that are not as long as they were, or not there."""
    root = tmp_path / "tokens"
    open_tokens(root, {}, writing([dialogue(1)]))
    directory = root / tokens_key({})
    if damage == "cut":
        (directory / "tokens.bin").write_bytes(b"1234")
    elif damage == "manifest":
        (directory / "manifest.json").write_text("{}")
    else:
        (directory / "examples.bin").unlink()
    assert open_tokens(root, {}, writing([dialogue(2)]))[:] == [dialogue(2)]


def test_only_the_last_used_are_kept(tmp_path: Path) -> None:
    """Who has others open goes on reading them."""
    root = tmp_path / "tokens"
    first = open_tokens(root, {"n": 0}, writing([dialogue(0)]))
    second = open_tokens(root, {"n": 1}, writing([dialogue(1)]))
    for number in range(2, KEPT + 1):
        open_tokens(root, {"n": 1}, never)
        open_tokens(root, {"n": number}, writing([dialogue(number)]))
    assert len([path for path in root.iterdir() if path.is_dir()]) == KEPT
    assert not (root / tokens_key({"n": 0})).exists()
    assert (root / tokens_key({"n": 1})).exists()
    assert (first[0], second[0]) == (dialogue(0), dialogue(1))


def test_a_full_disk_is_a_data_error(tmp_path: Path) -> None:
    """It names the place; the message is the system's."""

    def full(writer: TokenWriter) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="tokens: cannot be written: No space left on device"):
        open_tokens(tmp_path / "tokens", {}, full)


def test_the_highest_bit_marks_the_loss() -> None:
    """So ids of 31 bits are told from it."""
    encoded = Encoded.of([[Example([1, 2**31 - 1], [False, True])]])
    assert encoded.tokens.tolist() == [1, 2**32 - 1]
    assert encoded.tokens.dtype == np.uint32
