"""Who runs and what is computed next; checked with a model of random comings and goings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.scheduler import Scheduler
from server.engine.sequence import Chunk, Sequence
from server.engine.slots import SlotAllocator
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams


def sequence(key: int, prompt: int = 3, max_tokens: int = 5) -> Sequence:
    return Sequence(
        key=key,
        tokens=[1] * prompt,
        sampling=SamplingParams(),
        seed=0,
        max_tokens=max_tokens,
        end_tokens=frozenset({0}),
        reply=Reply(Detokenizer([b"", b"x"])),
    )


def shares(chunks: list[Chunk]) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.key, chunk.start, chunk.count) for chunk in chunks]


def step(scheduler: Scheduler, token: int = 1) -> list[Chunk]:
    """One step with a runner that always draws ``token``."""
    chunks = scheduler.plan()
    scheduler.advance(chunks)
    for chunk in chunks:
        if chunk.is_sampled and chunk.sequence.accept(token)[1]:
            scheduler.remove(chunk.sequence)
    return chunks


def test_a_prompt_is_computed_in_chunks_then_token_by_token() -> None:
    """Each step goes on where the last one ended, and only the last chunk is sampled."""
    scheduler = Scheduler(max_running=1, prefill_tokens=4)
    scheduler.add(sequence(0, prompt=6, max_tokens=3))
    steps = [step(scheduler) for _ in range(4)]
    assert [shares(each) for each in steps] == [[(0, 0, 4)], [(0, 4, 2)], [(0, 6, 1)], [(0, 7, 1)]]
    assert not scheduler.has_work


def test_prompts_share_the_budget_oldest_first_beside_running_replies() -> None:
    """Running replies are not charged to the budget; what an older prompt leaves goes on."""
    scheduler = Scheduler(max_running=4, prefill_tokens=5)
    scheduler.add(sequence(0, prompt=2))
    step(scheduler)
    for key, prompt in ((1, 3), (2, 9), (3, 4)):
        scheduler.add(sequence(key, prompt=prompt))
    assert shares(step(scheduler)) == [(0, 2, 1), (1, 0, 3), (2, 0, 2)]
    assert shares(step(scheduler)) == [(0, 3, 1), (1, 3, 1), (2, 2, 5)]


def test_the_line_is_first_come_first_served() -> None:
    """A row that becomes free goes to whoever waited longest."""
    scheduler = Scheduler(max_running=1, prefill_tokens=8)
    for key in range(3):
        scheduler.add(sequence(key, max_tokens=1))
    order = [step(scheduler)[0].sequence.key for _ in range(3)]
    assert order == [0, 1, 2]


def test_removing_gives_the_row_to_the_next() -> None:
    """A removed sequence is in no plan, whether it waited or ran."""
    scheduler = Scheduler(max_running=1, prefill_tokens=8)
    for key in range(3):
        scheduler.add(sequence(key))
    step(scheduler)
    scheduler.remove(scheduler.find(1))
    scheduler.remove(scheduler.find(0))
    assert scheduler.find(0) is None
    assert [key for key, _, _ in shares(scheduler.plan())] == [2]
    scheduler.check_integrity()


def test_an_end_token_ends_a_reply_and_a_full_one_ends_by_length() -> None:
    """The two ways for a sequence to be over, and the counts it reports."""
    ended, full = sequence(0), sequence(1, max_tokens=2)
    assert ended.accept(1)[1] is None
    assert ended.accept(0)[1] == "stop"
    assert ended.finished("stop").completion_tokens == 2
    assert [full.accept(1)[1], full.accept(1)[1]] == [None, "length"]


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 4), st.integers(1, 6))
def test_whatever_happens_the_books_are_right(
    events: list[int], max_running: int, budget: int
) -> None:
    """Random arrivals, steps and aborts never lose, share or leak a row, and all work ends."""
    scheduler = Scheduler(max_running=max_running, prefill_tokens=budget)
    for key, event in enumerate(events):
        if event < 4:
            scheduler.add(sequence(key, prompt=1 + event * 3, max_tokens=1 + key % 4))
        elif event < 8:
            chunks = step(scheduler, token=event % 2)
            assert len(chunks) <= max_running
        else:
            everyone = (*scheduler.running, *scheduler.waiting)
            if everyone:
                scheduler.remove(everyone[key % len(everyone)])
        scheduler.check_integrity()
        assert len(scheduler.running) <= max_running
    steps = 0
    while scheduler.has_work:
        assert step(scheduler), "there is work, but nothing is planned"
        steps += 1
        assert steps < 1000
    scheduler.check_integrity()


def test_a_corrupt_book_is_noticed() -> None:
    """The integrity check can fail: a lost and a shared slot are both found."""
    scheduler = Scheduler(max_running=2, prefill_tokens=8)
    scheduler.add(sequence(0))
    step(scheduler)
    scheduler.running[0].slot = 1
    with pytest.raises(AssertionError):
        scheduler.check_integrity()
    slots = SlotAllocator(2)
    slots._free.pop()
    with pytest.raises(AssertionError, match="lost"):
        slots.check_integrity()


def test_the_lowest_free_slot_is_taken() -> None:
    """Memory that was never touched stays so as long as lower rows are free."""
    slots = SlotAllocator(3)
    assert [slots.take(), slots.take()] == [0, 1]
    slots.give_back(0)
    assert slots.take() == 0
    assert slots.free == 1
