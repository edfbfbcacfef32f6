"""Random comings and goings against a model of the whole: no reply is lost, wrong or starved."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.engine.blocks import BLOCK_TOKENS, BlockPool
from server.engine.loop import Abort, EngineLoop, Notice
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.types import Finished
from tests.server.engine.scripted import ScriptedRunner, expected_reply, sequence

CONTEXT = 5 * BLOCK_TOKENS
FAMILIES = (range(1, CONTEXT), range(2, CONTEXT + 1))  # prompts are their beginnings


class Scheduling(RuleBasedStateMachine):
    """Requests for the base and two adapters, one of which is replaced now and then.

    The runner notices whatever a sequence sees that is not its own, and every reply has to be the
    one that the same request gets alone.
    """

    @initialize(
        blocks=st.integers(5, 16),
        max_running=st.integers(1, 5),
        prefill_tokens=st.integers(1, 50),
        reuses=st.booleans(),
        is_ahead=st.booleans(),
    )
    def start(
        self, blocks: int, max_running: int, prefill_tokens: int, reuses: bool, is_ahead: bool
    ) -> None:
        self.pool = BlockPool(blocks)
        self.scheduler = Scheduler(
            max_running=max_running,
            prefill_tokens=prefill_tokens,
            pool=self.pool,
            reuses_prefixes=reuses,
        )
        self.runner = ScriptedRunner(is_ahead=is_ahead)
        self.events: dict[int, list[object]] = {}
        self.loop = EngineLoop(self.scheduler, self.runner, self.deliver)
        self.sequences: dict[int, Sequence] = {}
        self.aborted: set[int] = set()
        self.version = 0

    def deliver(self, notices: list[Notice]) -> None:
        for key, event in notices:
            self.events[key].append(event)

    @property
    def open(self) -> list[int]:
        return [key for key in self.sequences if not self.is_over(key)]

    def is_over(self, key: int) -> bool:
        return any(isinstance(event, Finished) for event in self.events[key])

    @rule(
        model=st.sampled_from([None, "steady", "moving"]),
        family=st.sampled_from(FAMILIES),
        length=st.integers(1, CONTEXT - 1),
        max_tokens=st.integers(1, 40),
        priority=st.integers(-1, 1),
    )
    def submit(
        self, model: str | None, family: range, length: int, max_tokens: int, priority: int
    ) -> None:
        self.apply(model, family[:length], max_tokens, priority)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), question=st.integers(1, 20), max_tokens=st.integers(1, 40))
    def submit_the_next_turn(self, data: st.DataObject, question: int, max_tokens: int) -> None:
        """What some sequence has so far, its reply included, and more."""
        earlier = self.sequences[data.draw(st.sampled_from(sorted(self.sequences)))]
        model = None if earlier.digest is None else earlier.digest.partition("-")[0]
        prompt = [*earlier.tokens, *range(3, 3 + question)]
        self.apply(model, prompt[: CONTEXT - 1], max_tokens, 0)

    def apply(self, model: str | None, prompt: Rows[int], max_tokens: int, priority: int) -> None:
        key = len(self.sequences)
        digest = f"{model}-{self.version}" if model == "moving" else model
        most = min(max_tokens, CONTEXT - len(prompt))
        one = sequence(key, prompt, most, digest, priority)
        self.sequences[key], self.events[key] = one, []
        self.loop._apply(one)

    @rule()
    def replace_the_adapter(self) -> None:
        self.version += 1

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.make_a_step()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.open))
        self.loop._apply(Abort(key))
        self.loop._flush()
        self.aborted.add(key)
        assert self.is_over(key), "an abort takes effect before the next step"

    def make_a_step(self) -> None:
        """Which may be the reading of one that is in flight."""
        had_work, before = self.scheduler.has_work, self.runner.computed_tokens
        could_wait = self.loop._in_flight is not None
        self.loop._step()
        self.loop._flush()
        is_computed = self.runner.computed_tokens > before
        assert is_computed == had_work or could_wait, "work, but nothing is computed"
        assert had_work or not is_computed, "computed for nobody"
        assert is_computed or self.loop._in_flight is None, "what is launched is never read"

    @invariant()
    def books_are_right(self) -> None:
        if self.sequences:
            self.scheduler.check_integrity()
            known = {one.key for one in (*self.scheduler.running, *self.scheduler.waiting)}
            assert known == set(self.open), "a request was lost, or goes on after its end"

    @invariant()
    def the_most_deserving_that_ran_still_runs(self) -> None:
        running = self.scheduler.running if self.sequences else ()
        if running:
            best = min(running, key=lambda one: one.rank)
            assert all(best.rank < one.rank for one in self.scheduler._preempted)

    def teardown(self) -> None:
        if not self.sequences:
            return
        for _ in range(200 * len(self.sequences)):
            if not self.scheduler.has_work:
                break
            self.make_a_step()
            self.scheduler.check_integrity()
        assert not self.open, "some starve"
        for key, one in self.sequences.items():
            self.check_the_reply(key, one)
        assert (self.pool.held, self.pool.available) == (0, self.pool.count)

    def check_the_reply(self, key: int, one: Sequence) -> None:
        *_, last = self.events[key]
        assert isinstance(last, Finished)
        assert sum(isinstance(event, Finished) for event in self.events[key]) == 1
        assert (last.reason == "abort") == (key in self.aborted)
        prompt, reply = one.tokens[: one.prompt_tokens], one.tokens[one.prompt_tokens :]
        expected = expected_reply(one.digest, prompt, one.max_tokens)
        assert reply == (expected[: len(reply)] if key in self.aborted else expected)
        assert last.cached_tokens < one.prompt_tokens


Scheduling.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestScheduling: Callable[..., object] = Scheduling.TestCase
