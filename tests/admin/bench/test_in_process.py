"""The engine as a side: what is noted of it, and which seconds count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from admin.bench.engine import must_have_run_together
from admin.bench.errors import BenchFailed
from admin.bench.in_process import (
    OTHER,
    EngineSide,
    Moment,
    Watch,
    greedy,
    parts_between,
    with_every_parameter,
)
from admin.bench.peft import steady
from admin.bench.timeline import Round, Timeline
from admin.bench.workload import Prompter, Workload
from server.engine.errors import GenerationFailed
from server.engine.types import SamplingParams
from tests.fakes import Script, ScriptedEngine

LOAD = Workload(concurrency=2, requests=4, prompt_tokens=6, output_tokens=2)


class CountingEngine(ScriptedEngine):
    """A scripted engine that spends a second on each request, as it says."""

    def timings(self) -> dict[str, float]:
        return {"linears": float(len(self.requests))}


def side(*scripts: Script, load: Workload = LOAD) -> EngineSide:
    engine = CountingEngine(scripts=scripts or (Script(),))
    return EngineSide(
        engine=engine,  # type: ignore[arg-type] # what it needs of a LocalEngine
        models=["base", "poet"],
        prompter=Prompter(load),
        sampling=greedy(load),
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_round_asks_the_models_in_turn() -> None:
    """With prompts of their own, the full length, and every token's moment noted."""
    asked = side()
    played = await asked.play(0)

    requests = asked.engine.requests  # type: ignore[attr-defined]
    assert [request.model for request in requests] == ["base", "poet", "base", "poet"]
    assert len({request.prompt for request in requests}) == 4
    assert [request.sampling for request in requests] == [greedy(LOAD)] * 4
    assert [len(timeline.text_s) for timeline in played.timelines] == [2] * 4
    assert {timeline.failure for timeline in played.timelines} == {None}
    assert played.timelines[0].text == "你好！"
    assert played.parts["linears"] == 4


@pytest.mark.anyio
async def test_every_reply_has_the_length_that_was_drawn_for_it() -> None:
    """With a range of lengths, and the timeline says which was asked."""
    load = replace(LOAD, prompt_tokens=20, output_tokens=20, range_ratio=0.8)
    asked = side(load=load)
    played = await asked.play(2)

    lengths = [load.lengths(2, index)[1] for index in range(load.requests)]
    samplings = [request.sampling for request in asked.engine.requests]  # type: ignore[attr-defined]
    assert len(set(lengths)) > 1
    assert [sampling.max_tokens for sampling in samplings] == lengths
    assert [sampling.min_tokens for sampling in samplings] == lengths
    assert [timeline.asked_tokens for timeline in played.timelines] == lengths


@pytest.mark.anyio
async def test_a_refused_or_broken_reply_is_a_failure() -> None:
    """With the engine's words, and the others go on."""
    broken = Script(refusal=GenerationFailed("no room"))
    played = await side(broken, Script(fail_at=1), Script()).play(0)

    reasons = [timeline.failure for timeline in played.timelines]
    assert sorted(map(str, reasons)) == ["None", "None", "The scripted failure.", "no room"]


@pytest.mark.anyio
async def test_warming_up_fails_loudly() -> None:
    """What cannot be asked at all is not measured."""
    with pytest.raises(BenchFailed, match="a first request for 'base' failed: no room"):
        await side(Script(refusal=GenerationFailed("no room"))).warm_up(1)


def test_every_sampling_parameter_is_on() -> None:
    """Each of a reply differs from its default, but for grammar, thoughts, and ids that end it."""
    every, neutral = with_every_parameter(LOAD), SamplingParams()
    off = {
        name for name in SamplingParams.__slots__ if getattr(every, name) == getattr(neutral, name)
    }

    assert off == {"grammar", "prompt_logprobs", "stop_token_ids", "thought"}


def test_the_watch_tells_the_middle_from_the_whole() -> None:
    """The middle is from the last reply's beginning to the first one's end."""
    seconds = iter([0.0, 10.0, 16.0, 100.0])
    watch = Watch(lambda: {"linears": next(seconds)}, streams=2)

    watch.began()
    watch.began()
    watch.ended()
    watch.ended()
    whole, middle = watch.end()

    assert (whole["linears"], middle["linears"]) == (100.0, 6.0)


def test_there_is_no_middle_where_replies_never_ran_together() -> None:
    """One had ended before the last began."""
    watch = Watch(lambda: {"linears": 1.0}, streams=2)

    watch.began()
    watch.ended()
    watch.began()

    assert watch.end()[1] == {}


def test_a_side_without_steps_together_has_no_share() -> None:
    """It is refused by its name, also where the other side has such steps."""
    ran = Round(timelines=(), begun_s=0, ended_s=1, parts={"sampling": 0.1, OTHER: 0.9})
    never = Round(timelines=(), begun_s=0, ended_s=1)

    must_have_run_together({"all": [never, ran], "some": [ran]})
    with pytest.raises(BenchFailed, match="'greedy' ran together; ask for more --output-tokens"):
        must_have_run_together({"every parameter": [ran], "greedy": [never]})


def test_what_no_part_counts_is_other() -> None:
    """So that the parts are the whole time; an engine that counts nothing has no parts."""
    before = Moment(10.0, {"a": 1.0, "b": 5.0})
    after = Moment(20.0, {"a": 4.0, "b": 7.0})

    assert parts_between(before, after) == {"a": 3.0, "b": 2.0, OTHER: 5.0}
    assert parts_between(Moment(0, {}), Moment(1, {})) == {}


def test_the_steady_part_has_all_rows_and_no_prompt() -> None:
    """From the last first token to the first last one; failures stay failures."""
    early = Timeline(model="a", sent_s=0, text_s=(1, 2, 3, 4, 5), output_tokens=5)
    late = Timeline(model="b", sent_s=0, text_s=(2.5, 3.5, 4.5, 6), output_tokens=4)
    broken = Timeline(model="c", sent_s=0, failure="no")
    played = Round(timelines=(early, late, broken), begun_s=0, ended_s=9)

    cut = steady(played)

    assert (cut.begun_s, cut.ended_s) == (2.5, 5)
    assert [each.text_s for each in cut.timelines] == [(3, 4, 5), (2.5, 3.5, 4.5), ()]
    assert [each.output_tokens for each in cut.timelines[:2]] == [2, 2]
    assert cut.timelines[2].failure == "no"


def test_rows_that_never_ran_together_cannot_be_compared() -> None:
    """One had ended before the other began."""
    apart = [Timeline(model="a", sent_s=0, text_s=times) for times in ((1, 2), (2, 3))]

    with pytest.raises(BenchFailed, match="--steps"):
        steady(Round(timelines=tuple(apart), begun_s=0, ended_s=9))
