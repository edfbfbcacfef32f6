"""Who runs, what is computed next, and who gives way when the cache is short."""

from __future__ import annotations

import pytest

from server.engine.blocks import BlockPool
from server.engine.scheduler import Scheduler
from server.engine.sequence import Chunk
from tests.server.engine.scripted import ScriptedRunner, expected_reply, sequence


def scheduler_of(
    blocks: int = 64, *, max_running: int = 4, prefill_tokens: int = 64, reuses: bool = True
) -> Scheduler:
    return Scheduler(
        max_running=max_running,
        prefill_tokens=prefill_tokens,
        pool=BlockPool(blocks),
        reuses_prefixes=reuses,
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
        scheduler.confirm(chunk, 0)
    scheduler.check_integrity()
    return chunks


# What is computed


def test_a_prompt_is_computed_in_chunks_then_token_by_token() -> None:
    """Each step goes on where the last one ended, and only the last chunk is sampled."""
    scheduler = scheduler_of(max_running=1, prefill_tokens=4)
    scheduler.add(sequence(0, prompt=6, max_tokens=3))
    steps = [step(scheduler) for _ in range(4)]
    assert [shares(each) for each in steps] == [[(0, 0, 4)], [(0, 4, 2)], [(0, 6, 1)], [(0, 7, 1)]]
    assert not scheduler.has_work


def test_prompts_share_the_budget_oldest_first_beside_running_replies() -> None:
    """Running replies are not charged to the budget; what an older prompt leaves goes on."""
    scheduler = scheduler_of(prefill_tokens=5)
    scheduler.add(sequence(0, prompt=2))
    step(scheduler)
    for key, prompt in ((1, 3), (2, 9), (3, 4)):
        scheduler.add(sequence(key, prompt=prompt))
    assert shares(step(scheduler)) == [(0, 2, 1), (1, 0, 3), (2, 0, 2)]
    assert shares(step(scheduler)) == [(0, 3, 1), (1, 3, 1), (2, 2, 5)]


def test_the_line_of_a_model_is_first_come_first_served() -> None:
    """A place that becomes free goes to whoever waited longest."""
    scheduler = scheduler_of(max_running=1)
    for key in range(3):
        scheduler.add(sequence(key, max_tokens=1))
    order = [step(scheduler)[0].sequence.key for _ in range(3)]
    assert order == [0, 1, 2]


def test_removing_gives_the_place_to_the_next() -> None:
    """A removed sequence is in no plan, whether it waited or ran."""
    scheduler = scheduler_of(max_running=1)
    for key in range(3):
        scheduler.add(sequence(key))
    step(scheduler)
    scheduler.remove(scheduler.find(1))
    scheduler.remove(scheduler.find(0))
    assert scheduler.find(0) is None
    assert [key for key, _, _ in shares(step(scheduler))] == [2]


def test_an_end_token_ends_a_reply_and_a_full_one_ends_by_length() -> None:
    """The two ways for a sequence to be over, and the counts it reports."""
    ended, full = sequence(0), sequence(1, max_tokens=2)
    assert ended.accept(1)[1] is None
    assert ended.accept(0)[1] == "stop"
    assert ended.finished("stop").completion_tokens == 2
    assert [full.accept(1)[1], full.accept(1)[1]] == [None, "length"]


# Blocks


def test_blocks_are_taken_as_tokens_need_them() -> None:
    """A prompt takes those of the chunk at hand, a reply one more when it enters it."""
    scheduler = scheduler_of(blocks=8, prefill_tokens=20)
    one = sequence(0, prompt=40, max_tokens=20)
    scheduler.add(one)
    held = []
    for _ in range(11):
        step(scheduler)
        held.append(len(one.blocks))
    assert held == [2, 3, *[3] * 8, 4]
    assert one.computed == 50 - 1


def test_a_prefix_that_is_known_is_not_computed_again() -> None:
    """Prompt and reply are reused, also a block's part; one token is always left to be sampled."""
    scheduler = scheduler_of(prefill_tokens=99)
    first = sequence(0, prompt=range(1, 41), max_tokens=10)
    scheduler.add(first)
    while scheduler.has_work:
        step(scheduler, token=7)
    again = sequence(1, prompt=range(1, 41))
    longer = sequence(2, prompt=[*range(1, 41), *[7] * 9, 5, 5])
    exact = sequence(3, prompt=range(1, 33))
    for one in (again, longer, exact):
        scheduler.add(one)
    assert shares(step(scheduler)) == [(1, 32, 8), (2, 49, 2), (3, 16, 16)]
    assert [one.cached_tokens for one in (first, again, longer, exact)] == [0, 32, 49, 16]


@pytest.mark.parametrize("length", [5, 37])
def test_where_a_text_was_left_only_the_same_model_goes_on(length: int) -> None:
    """In the first block as in a later one; and only one of two that could."""
    scheduler = scheduler_of(prefill_tokens=99)
    scheduler.add(sequence(0, prompt=range(length), max_tokens=1, model="a"))
    step(scheduler)
    assert not scheduler.has_work
    for key, model in enumerate(["b", None, "a", "a"], start=1):
        scheduler.add(sequence(key, prompt=range(length + 3), model=model))
    full = length // 16 * 16
    assert shares(step(scheduler)) == [
        (1, 0, length + 3),
        (2, 0, length + 3),
        (3, length, 3),
        (4, full, length + 3 - full),
    ]


def test_two_prompts_at_once_compute_their_common_beginning_once() -> None:
    """The second waits for the step that computes it, then goes on from there."""
    scheduler = scheduler_of(prefill_tokens=99)
    scheduler.add(sequence(0, prompt=[*range(32), 5, 5]))
    scheduler.add(sequence(1, prompt=[*range(32), 6, 6, 6]))
    assert shares(step(scheduler)) == [(0, 0, 34)]
    assert shares(step(scheduler)) == [(0, 34, 1), (1, 32, 3)]
    first, second = scheduler.running
    assert first.blocks[:2] == second.blocks[:2]
    assert first.blocks[2] != second.blocks[2]


def test_the_one_who_waits_for_a_block_goes_on_alone_if_the_other_leaves() -> None:
    """An abort in between takes nothing from it but what was not computed."""
    scheduler = scheduler_of(prefill_tokens=16)
    for key in range(2):
        scheduler.add(sequence(key, prompt=range(64)))
    assert shares(step(scheduler)) == [(0, 0, 16)]
    scheduler.remove(scheduler.find(0))
    assert shares(step(scheduler)) == [(1, 16, 16)]


def test_two_models_compute_the_same_prompt_side_by_side() -> None:
    """There is nothing to wait for: they share no block."""
    scheduler = scheduler_of(prefill_tokens=99)
    for key, model in enumerate(["a", "b"]):
        scheduler.add(sequence(key, prompt=range(40), model=model))
    assert shares(step(scheduler)) == [(0, 0, 40), (1, 0, 40)]


@pytest.mark.parametrize(
    ("model", "reuses"), [("b", True), ("a", False)], ids=["another adapter", "switched off"]
)
def test_a_prefix_is_computed_again(model: str, reuses: bool) -> None:
    """For another adapter, and where the prefix cache is off."""
    scheduler = scheduler_of(prefill_tokens=99, reuses=reuses)
    scheduler.add(sequence(0, prompt=range(40), model="a", max_tokens=1))
    step(scheduler)
    scheduler.add(sequence(1, prompt=range(40), model=model))
    assert shares(step(scheduler)) == [(1, 0, 40)]


# Pressure


def test_the_youngest_gives_way_and_comes_back_before_anyone_new() -> None:
    """Its blocks go to the oldest; it is computed again, from what the cache still has."""
    scheduler = scheduler_of(blocks=6, prefill_tokens=99)
    oldest, youngest, new = (
        sequence(key, prompt=[key] * length, max_tokens=tokens)
        for key, (length, tokens) in enumerate([(30, 40), (30, 40), (3, 4)])
    )
    scheduler.add(oldest)
    scheduler.add(youngest)
    while not youngest.preemptions:
        step(scheduler)
    scheduler.add(new)
    known = len(youngest.tokens)
    while youngest.key not in [chunk.sequence.key for chunk in step(scheduler)]:
        assert scheduler.waiting == (youngest, new), "nobody goes before the pre-empted"
    assert len(youngest.tokens) == known + 1, "it was computed again, and went on by one"
    while scheduler.has_work:
        step(scheduler)
    assert [one.preemptions for one in (oldest, youngest, new)] == [0, 1, 0]
    assert [one.completion_tokens for one in (oldest, youngest, new)] == [40, 40, 4]
    assert youngest.cached_tokens == 0, "what it found of its own is no saving for its user"


def test_the_lower_priority_gives_way_before_the_younger() -> None:
    """Age decides among equals."""
    scheduler = scheduler_of(blocks=4, prefill_tokens=99, reuses=False)
    low, high = sequence(0, prompt=15, max_tokens=40, priority=-1), sequence(1, 15, 40)
    scheduler.add(low)
    scheduler.add(high)
    while not low.preemptions:
        step(scheduler)
    assert high.preemptions == 0
    assert scheduler.running == (high,)


def test_a_sequence_as_long_as_the_pool_gets_through() -> None:
    """The smallest pool that is allowed holds one context: whoever fills it is served alone."""
    scheduler = scheduler_of(blocks=4, prefill_tokens=10)
    whole = sequence(0, prompt=60, max_tokens=4)
    others = [sequence(key, prompt=20, max_tokens=30) for key in (1, 2)]
    for one in (others[0], whole, others[1]):
        scheduler.add(one)
    for _ in range(200):
        step(scheduler)
    assert not scheduler.has_work
    assert [one.completion_tokens for one in (whole, *others)] == [4, 30, 30]


def test_nobody_is_pre_empted_to_admit_another() -> None:
    """A prompt that does not fit beside what runs waits, however important."""
    scheduler = scheduler_of(blocks=4, prefill_tokens=99)
    scheduler.add(sequence(0, prompt=40, max_tokens=5))
    step(scheduler)
    scheduler.add(sequence(1, prompt=range(30), max_tokens=5, priority=8))
    for _ in range(4):
        assert [key for key, _, _ in shares(step(scheduler))] == [0]
    assert [key for key, _, _ in shares(step(scheduler))] == [1]


def test_what_is_promised_to_those_that_run_is_not_given_away() -> None:
    """A long prompt in its first chunk has room for the rest: nobody is let in to be put out."""
    scheduler = scheduler_of(blocks=8, prefill_tokens=16)
    scheduler.add(sequence(0, prompt=range(80), max_tokens=2))
    step(scheduler)
    late, fits = sequence(1, prompt=range(100, 150)), sequence(2, prompt=range(200, 210))
    scheduler.add(late)
    step(scheduler)
    assert late not in scheduler.running
    scheduler.remove(late)
    scheduler.add(fits)
    step(scheduler)
    assert fits in scheduler.running


def test_there_has_to_be_room_for_the_first_token_too() -> None:
    """A prompt that fills the last free block is let in only when it can go on."""
    scheduler = scheduler_of(blocks=4, prefill_tokens=99)
    scheduler.add(sequence(0, prompt=range(40), max_tokens=3))
    step(scheduler)
    exact = sequence(1, prompt=range(100, 116))
    scheduler.add(exact)
    step(scheduler)
    assert exact not in scheduler.running
    step(scheduler)
    step(scheduler)
    assert exact in scheduler.running
    assert exact.preemptions == 0


def test_a_pre_empted_sequence_can_be_removed() -> None:
    """It holds nothing, and is found by its key until then."""
    scheduler = scheduler_of(blocks=4, prefill_tokens=99)
    for key in range(2):
        scheduler.add(sequence(key, prompt=[key] * 20, max_tokens=44))
    while len(scheduler.running) == 2 or not scheduler.running:
        step(scheduler)
    victim = scheduler.find(1)
    assert victim in scheduler.waiting
    scheduler.remove(victim)
    assert scheduler.find(1) is None
    while scheduler.has_work:
        step(scheduler)


def test_a_corrupt_book_is_noticed() -> None:
    """The integrity check can fail: shared, lost and unaccounted blocks are all found."""
    for corrupt in (
        lambda one, other: one.blocks.__setitem__(1, other.blocks[1]),
        lambda one, other: one.blocks.append(9),
        lambda one, other: one.blocks.pop(),
        lambda one, other: one.links.pop(),
        lambda one, other: setattr(one, "computed", len(one.tokens)),
        lambda one, other: scheduler._pager._pool._prefixes.add(one.blocks[1], None, (9,)),  # noqa: B023 - called at once
    ):
        scheduler = scheduler_of()
        one, other = sequence(0, prompt=range(20)), sequence(1, prompt=range(50, 70))
        scheduler.add(one)
        scheduler.add(other)
        step(scheduler)
        corrupt(one, other)
        with pytest.raises(AssertionError):
            scheduler.check_integrity()


def test_the_scripted_runner_notices_a_wrong_table() -> None:
    """The fake of these tests can fail: another's block, and one that another overwrote."""
    scheduler, runner = scheduler_of(), ScriptedRunner()
    one, other = sequence(0, prompt=range(20)), sequence(1, prompt=range(50, 70))
    scheduler.add(one)
    scheduler.add(other)
    chunks = scheduler.plan()
    assert [drawn.token for _, drawn in runner.launch(chunks)()] == [
        expected_reply(None, each.tokens, 1)[0] for each in (one, other)
    ]
    one.blocks[0], other.blocks[0] = other.blocks[0], one.blocks[0]
    with pytest.raises(AssertionError, match="within its revision"):
        runner.launch(chunks)
    one.revision, other.revision = one.revision + 1, other.revision + 1
    with pytest.raises(AssertionError, match="not its own"):
        runner.launch([Chunk(one, 19, 1)])
