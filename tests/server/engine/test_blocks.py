"""The block pool: who holds what, what stays findable, and what is overwritten first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.engine.blocks import BlockPool, blocks_for

A, B, C = tuple(range(16)), tuple(range(20, 36)), tuple(range(40, 56))


def text(pool: BlockPool, *parts: tuple[int, ...], owner: str | None = None) -> list[int]:
    """Take and publish a block for each part, one after the other; the table."""
    table: list[int] = []
    link: Any = owner
    for part in parts:
        block, link = pool.publish(pool.take(), link, part)
        table.append(block)
    return table


def found(pool: BlockPool, *parts: tuple[int, ...], owner: str | None = None) -> list[int]:
    """The blocks that hold ``parts`` one after the other, as far as there are any."""
    table: list[int] = []
    link: Any = owner
    for part in parts:
        hit = pool.find(link, part)
        if hit is None:
            break
        block, link = hit
        table.append(block)
    return table


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_a_last_block_may_be_partly_used(tokens: int, blocks: int) -> None:
    """Rounded up."""
    assert blocks_for(tokens) == blocks


def test_the_lowest_empty_block_is_taken() -> None:
    """Memory that was never touched stays so as long as lower blocks are empty."""
    pool = BlockPool(3)
    assert [pool.take(), pool.take()] == [0, 1]
    pool.release([0])
    assert pool.take() == 0
    assert pool.available == 1


def test_what_is_released_is_found_again() -> None:
    """A text is matched block by block from its start; the count of holders follows."""
    pool = BlockPool(4)
    table = text(pool, A, B)
    pool.release(table)
    assert (pool.held, pool.cached, pool.available) == (0, 2, 4)
    assert found(pool, A, B, C) == table
    assert (pool.held, pool.cached, pool.available) == (2, 0, 2)
    pool.check_integrity([table])


@pytest.mark.parametrize("owner", [None, "other"])
def test_the_same_tokens_of_another_adapter_are_not_found(owner: str | None) -> None:
    """Not even the base's."""
    pool = BlockPool(4)
    text(pool, A, B, owner="one")
    assert found(pool, A, B, owner=owner) == []


def test_the_same_tokens_after_others_are_not_found() -> None:
    """A block is what it holds and everything before it."""
    pool = BlockPool(4)
    text(pool, A, B)
    assert found(pool, B) == []
    assert found(pool, C, B) == []


def test_holders_are_counted() -> None:
    """A shared block is free when the last one has left, not before."""
    pool = BlockPool(2)
    first = text(pool, A)
    second = found(pool, A)
    assert first == second
    pool.release(first)
    assert (pool.held, pool.cached) == (1, 0)
    pool.release(second)
    assert (pool.held, pool.cached) == (0, 1)
    with pytest.raises(KeyError):
        pool.release(second)


def test_the_same_text_computed_twice_is_kept_once() -> None:
    """The second is given up for the first, whose content is equal; its link leads on."""
    pool = BlockPool(4)
    first, second = text(pool, A), text(pool, A, B)
    assert second[0] == first[0]
    assert pool.held == 2
    pool.check_integrity([first, second])


def test_empty_blocks_go_before_cached_ones_and_old_before_new() -> None:
    """The least recently used text is overwritten from its end; a use makes it new."""
    pool = BlockPool(5)
    old, new = text(pool, A, B), text(pool, C)
    pool.release(old)
    pool.release(new)
    pool.release(found(pool, A))
    taken = [pool.take() for _ in range(2)]
    assert not set(taken) & {*old, *new}, "two were empty"
    assert pool.take() == old[1]
    assert (found(pool, A, B), found(pool, C)) == (old[:1], new)
    pool.check_integrity([taken, old[:1], new, [old[1]]])


def test_a_beginning_is_never_overwritten_before_its_continuations() -> None:
    """Two texts with a common start, left in any order: the start goes last."""
    pool = BlockPool(3)
    one = text(pool, A, B)
    other = [*found(pool, A), pool.publish(pool.take(), 0, C)[0]]
    pool.release(one)
    pool.release(other)
    assert [pool.take(), pool.take(), pool.take()] == [one[1], other[1], one[0]]


def test_a_text_goes_on_in_the_block_where_another_left_it() -> None:
    """The longest part that fits is taken, once: who goes on in it writes to it."""
    pool = BlockPool(4)
    full, short, long = text(pool, A)[0], pool.take(), pool.take()
    _, link = pool._prefixes.find(None, A) or (0, 0)
    for block, count in ((short, 3), (long, 9)):
        pool.publish(block, link, B[:count])
        pool.release([block])
    assert pool.resume(link, (*B[:8], 99)) == (short, 3)
    assert pool.resume(link, B[:15]) == (long, 9)
    assert pool.resume(link, B[:15]) is None
    assert pool.resume(None, B[:15]) is None
    pool.check_integrity([[full, short, long]])


def test_a_part_left_twice_is_kept_once() -> None:
    """The block of the second is empty again."""
    pool = BlockPool(2)
    for _ in range(2):
        block, _ = pool.publish(pool.take(), None, A[:5])
        pool.release([block])
    assert (pool.held, pool.cached, pool.available) == (0, 1, 2)
    pool.check_integrity([])


def test_a_part_that_was_left_is_overwritten_before_what_it_follows() -> None:
    """As any end of a text."""
    pool = BlockPool(2)
    table = text(pool, A)
    rest, _ = pool.publish(pool.take(), 0, B[:5])
    pool.release([*table, rest])
    assert [pool.take(), pool.take()] == [rest, *table]


CORRUPTIONS = {
    "lost": lambda pool: pool._empty.pop(),
    "in two places": lambda pool: pool._cached.__setitem__(pool._empty[0], None),
    "miscounted": lambda pool: pool._holders.__setitem__(0, 2),
    "without a beginning": lambda pool: pool._prefixes.forget(0),
    "cached but not findable": lambda pool: (
        pool._cached.__setitem__(pool._empty.pop(), None) or pool._empty.sort()
    ),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_corrupt_books_are_noticed(corrupt: Callable[[BlockPool], object]) -> None:
    """The integrity check can fail."""
    pool = BlockPool(4)
    table = text(pool, A, B)
    pool.check_integrity([table])
    corrupt(pool)
    with pytest.raises(AssertionError):
        pool.check_integrity([table])


def test_sharing_what_is_still_written_to_is_noticed() -> None:
    """Only full blocks that are findable may have two holders."""
    pool = BlockPool(2)
    block = pool.take()
    pool._holders[block] = 2
    with pytest.raises(AssertionError, match="written to is shared"):
        pool.check_integrity([[block], [block]])
