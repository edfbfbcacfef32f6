"""Guessing from the text itself."""

from __future__ import annotations

from server.engine.guess import Guesser


def test_a_text_that_repeats_is_continued_as_before() -> None:
    """After the same three tokens comes what came then."""
    guesser = Guesser(2)
    assert guesser.guess([1, 2, 3, 4, 5, 6, 1, 2, 3], 8) == (4, 5)


def test_the_latest_time_counts() -> None:
    """Of several continuations the newest is guessed."""
    guesser = Guesser(1)
    assert guesser.guess([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 8) == (5,)


def test_nothing_is_guessed_where_nothing_is_alike() -> None:
    """New text, or a text shorter than what is compared."""
    assert Guesser(4).guess([1, 2, 3, 4, 5, 6, 7], 8) == ()
    assert Guesser(4).guess([1, 1], 8) == ()
    assert Guesser(4).guess([], 8) == ()


def test_a_guess_is_no_longer_than_allowed() -> None:
    """The caller's room, a reply's last tokens for example, bounds it."""
    guesser = Guesser(8)
    text = [1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert guesser.guess(text, 1) == (4,)
    assert guesser.guess(text, 0) == ()


def test_a_guess_may_copy_itself() -> None:
    """A loop of two tokens is guessed on for as long as wished."""
    guesser = Guesser(6)
    text = [7, 8, 7, 8, 7]
    for _ in range(3):
        guesser.learn(1, 1)
    assert guesser.guess(text, 6) == (8, 7, 8, 7, 8, 7)


def test_the_index_follows_a_growing_text() -> None:
    """Tokens that came since the last call are known at the next."""
    guesser = Guesser(4)
    text = [1, 2, 3, 4]
    assert guesser.guess(text, 4) == ()
    text += [9, 1, 2, 3]
    assert guesser.guess(text, 4) == (4, 9)


def test_right_guesses_make_bold_and_wrong_ones_careful() -> None:
    """The length doubles up to the bound, and falls to what was right, at least one."""
    guesser = Guesser(8)
    text = [*range(20), 0, 1, 2]
    lengths = []
    for right in (2, 4, 8, 8, 3, 0, 1):
        guessed = guesser.guess(text, 99)
        lengths.append(len(guessed))
        guesser.learn(len(guessed), right)
    assert lengths == [2, 4, 8, 8, 8, 3, 1]
