"""Parameters that steer a reply, through the whole engine: ends, penalties, grammars, logprobs."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LogitsProcessor

from adapters.base import Base, read_base
from server.engine.errors import GenerationFailed, SamplingInvalid
from server.engine.generation import LocalGeneration
from server.engine.native.build import library
from server.engine.types import Delta, Event, Finished, SamplingParams
from tests.server.engine.drawing import packed
from tests.server.engine.harness import GREEDY, prompt_of, read, running, text_of

pytestmark = pytest.mark.anyio

needs_native = pytest.mark.skipif(library() is None, reason="needs a C compiler")
KERNELS = (pytest.param("native", marks=needs_native), "torch")
PROMPT = prompt_of(9)
VOCABULARY = 259


def generate(base: Base, **settings: Any) -> Any:
    """What transformers does with PROMPT, greedily."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            **settings,
        )


def logprobs_of(events: list[Event]) -> list[Any]:
    return [one for event in events if isinstance(event, Delta) for one in event.logprobs]


async def listen(generation: LocalGeneration, said: list[Event]) -> None:
    """Take down what comes, as long as it comes."""
    async for event in generation:
        said.append(event)  # noqa: PERF401 - what came before a failure has to stay


# Against transformers


class Said(LogitsProcessor):
    """OpenAI's two penalties, by their formula, and a bias before them."""

    bias: ClassVar = {40: 1.5, 41: -1.0}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(input_ids[0, len(PROMPT) :], minlength=scores.shape[-1])
        scores = scores.clone()
        for token, bias in self.bias.items():
            scores[0, token] += bias
        return scores - counts * 0.75 - (counts > 0) * 0.5


@pytest.mark.parametrize("kernels", KERNELS)
async def test_penalties_and_biases_hold_in_every_step(
    base: Base, tmp_path: Path, kernels: str
) -> None:
    """A greedy reply with all of them is the one that their formulas give."""
    expected = generate(base, logits_processor=[Said()]).sequences[0, len(PROMPT) :].tolist()
    free = generate(base).sequences[0, len(PROMPT) :].tolist()
    assert expected != free, "they must make a difference"
    sampling = replace(GREEDY, frequency_penalty=0.75, presence_penalty=0.5, logit_bias=Said.bias)
    async with running(base, tmp_path, kernels=kernels) as engine:
        assert await engine.tokens(base.name, PROMPT, sampling) == expected


@pytest.mark.parametrize("kernels", KERNELS)
async def test_every_token_comes_with_its_logprobs(
    base: Base, tmp_path: Path, kernels: str
) -> None:
    """One for each token of a delta, as log-softmax over the logits of transformers gives them."""
    raw = generate(base, output_logits=True)
    expected = torch.cat(raw.logits).double().log_softmax(-1)
    async with running(base, tmp_path, kernels=kernels) as engine:
        sampling = replace(GREEDY, logprobs=20)
        events = await read(await engine.submit(base.name, PROMPT, sampling))
        plain = await read(await engine.submit(base.name, PROMPT))
        tokens = engine.sequences[0].tokens[len(PROMPT) :]
    found = logprobs_of(events)
    assert [one.token for one in found] == tokens
    for one, row in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(float(row[one.token]), abs=1e-4)
        likeliest = [value for _, value in one.alternatives]
        assert likeliest == pytest.approx(row.topk(20).values.tolist(), abs=1e-4)
    assert all(len(event.logprobs) == event.tokens for event in events[:-1])
    assert logprobs_of(plain) == []


# Ends


async def early_ending(base: Base, root: Path) -> tuple[Base, list[int], int]:
    """A base that ends its greedy reply to PROMPT, what it would have said, and where it ends."""
    async with running(base, root / "empty") as engine:
        free = await engine.tokens(base.name, PROMPT)
    cut = next(at for at in range(3, 20) if free[at] not in free[:at])
    path = root / "ending"
    shutil.copytree(base.path, path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": free[cut]}))
    return read_base(path, "ending"), free, cut


async def test_ignore_eos_goes_on_to_max_tokens(base: Base, tmp_path: Path) -> None:
    """The end token is one like any other, for this request and no other."""
    ending, free, cut = await early_ending(base, tmp_path)
    async with running(ending, tmp_path) as engine:
        sampling = replace(GREEDY, ignore_eos=True)
        events = await read(await engine.submit("ending", PROMPT, sampling))
        assert events[-1] == Finished("length", len(PROMPT), GREEDY.max_tokens)
        assert engine.sequences[0].tokens[len(PROMPT) :] == free
        assert len(await engine.tokens("ending", PROMPT)) == cut + 1


async def test_no_end_comes_before_min_tokens(base: Base, tmp_path: Path) -> None:
    """The end token is not drawn, so that the reply goes on as if there were none."""
    ending, free, cut = await early_ending(base, tmp_path)
    async with running(ending, tmp_path) as engine:
        for least in (cut + 1, cut + 5):
            reply = await engine.tokens("ending", PROMPT, replace(GREEDY, min_tokens=least))
            assert free[cut] not in reply[:least]
            assert len(reply) >= least
            assert reply[:cut] == free[:cut]
        within = await engine.tokens("ending", PROMPT, replace(GREEDY, min_tokens=cut))
        assert within == free[: cut + 1]


async def test_a_stop_token_ends_the_reply_and_is_no_text(base: Base, tmp_path: Path) -> None:
    """As an end token does, also where those are ignored."""
    async with running(base, tmp_path) as engine:
        free = await engine.tokens(base.name, PROMPT)
        cut = next(at for at in range(3, 20) if free[at] not in free[:at])
        sampling = replace(GREEDY, stop_token_ids=(300, free[cut]), ignore_eos=True)
        events = await read(await engine.submit(base.name, PROMPT, sampling))
        assert events[-1] == Finished("stop", len(PROMPT), cut + 1)
        assert text_of(events) == engine.engine._parts.tokenizer.text(free[:cut])


async def test_stop_strings_are_not_looked_for_before_min_tokens(
    base: Base, tmp_path: Path
) -> None:
    """What comes earlier is shown; the first occurrence behind it ends the reply."""
    async with running(base, tmp_path) as engine:
        token = engine.engine._parts.tokenizer._tokenizer.convert_tokens_to_ids("a")
        letter = SamplingParams(
            temperature=0.0, max_tokens=10, logit_bias={token: 100.0}, stop=("aa",)
        )
        at_once = await read(await engine.submit(base.name, PROMPT, letter))
        later = await read(await engine.submit(base.name, PROMPT, replace(letter, min_tokens=5)))
    assert (text_of(at_once), at_once[-1].completion_tokens) == ("", 2)
    assert (text_of(later), later[-1].completion_tokens) == ("aaaaa", 7)
    assert later[-1].reason == "stop"


async def test_more_tokens_than_there_is_room_for_are_refused(base: Base, tmp_path: Path) -> None:
    """A promise of ``min_tokens`` that the context cannot hold is not given."""
    async with running(base, tmp_path, max_context=32) as engine:
        sampling = SamplingParams(temperature=0.0, min_tokens=24)
        with pytest.raises(SamplingInvalid, match=r"min_tokens: 24 is more .* room for, 23\."):
            await engine.submit(base.name, PROMPT, sampling)
        within = replace(sampling, min_tokens=23)
        assert len(await engine.tokens(base.name, PROMPT, within)) == 23


async def test_tokens_that_the_base_does_not_have_cannot_be_biased(
    base: Base, tmp_path: Path
) -> None:
    """The last one can."""
    async with running(base, tmp_path) as engine:
        with pytest.raises(SamplingInvalid, match="not in the vocabulary of 259"):
            await engine.submit(base.name, PROMPT, SamplingParams(logit_bias={VOCABULARY: 1.0}))
        sampling = SamplingParams(logit_bias={VOCABULARY - 1: -100.0}, max_tokens=2)
        await read(await engine.submit(base.name, PROMPT, sampling))


# Grammars


class Words:
    """Allows one of each set of tokens, one after the other; an empty set is a dead end."""

    def __init__(self, spelled: list[set[int]]) -> None:
        self._left = list(spelled)

    def mask(self) -> np.ndarray | None:
        allowed = np.zeros(VOCABULARY, dtype=bool)
        allowed[list(self._left[0])] = True
        return packed(allowed)

    def accept(self, token: int) -> None:
        assert token in self._left.pop(0)

    @property
    def is_finished(self) -> bool:
        return not self._left


@pytest.mark.parametrize("kernels", KERNELS)
async def test_a_grammar_shapes_the_reply_and_ends_it(
    base: Base, tmp_path: Path, kernels: str
) -> None:
    """Every token is one that it allows, each reply has its own, and a neighbour is free."""
    spelled = [{60, 61, 62}, {70}, {80, 81}, {90}]
    async with running(base, tmp_path, kernels=kernels) as engine:
        free = await engine.tokens(base.name, PROMPT)
        sampling = SamplingParams(temperature=1.0, seed=1, grammar=lambda: Words(spelled))
        streams = [
            await engine.submit(base.name, PROMPT, sampling),
            await engine.submit(base.name, PROMPT),
            await engine.submit(base.name, PROMPT, replace(sampling, seed=2)),
        ]
        events = await asyncio.gather(*map(read, streams))
        replies = [one.tokens[len(PROMPT) :] for one in engine.sequences[1:]]
    for at in (0, 2):
        assert events[at][-1] == Finished("stop", len(PROMPT), 4)
        assert all(token in words for token, words in zip(replies[at], spelled, strict=True))
        assert text_of(events[at])
    assert replies[1] == free


@pytest.mark.parametrize("kernels", KERNELS)
async def test_a_grammar_that_allows_nothing_fails_that_reply_alone(
    base: Base, tmp_path: Path, kernels: str
) -> None:
    """Its reader is told what happened; what was said so far arrived; the neighbour goes on."""
    async with running(base, tmp_path, kernels=kernels) as engine:
        free = await engine.tokens(base.name, PROMPT)
        stuck = replace(GREEDY, grammar=lambda: Words([{60}, {70}, set(), {80}]))
        failing = await engine.submit(base.name, PROMPT, stuck)
        other = asyncio.create_task(engine.tokens(base.name, PROMPT))
        said: list[Event] = []
        with pytest.raises(GenerationFailed, match="no token is allowed"):
            await listen(failing, said)
        assert sum(event.tokens for event in said) == 2
        assert await other == free


@needs_native
async def test_guessing_ahead_changes_no_steered_reply(base: Base, tmp_path: Path) -> None:
    """Penalties, withheld ends and logprobs are those of a step a token; a grammar is not guessed.

    The reply repeats itself, so that there is something to guess.
    """
    words = [{60}, {61}, {62}] * 6
    kinds = [
        replace(GREEDY, min_tokens=20, frequency_penalty=0.1, logit_bias={70: 9.0}, logprobs=2),
        replace(GREEDY, grammar=lambda: Words(words)),
    ]
    said = []
    for guessed in (0, 6):
        async with running(base, tmp_path, speculative_tokens=guessed) as engine:
            streams = [await engine.submit(base.name, PROMPT, kind) for kind in kinds]
            said.append([_joined(events) for events in await asyncio.gather(*map(read, streams))])
    assert said[0] == said[1]


def _joined(events: list[Event]) -> tuple[str, list[Any], Event]:
    return text_of(events), logprobs_of(events), events[-1]


async def test_a_grammar_that_breaks_fails_that_reply_alone(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in it is logged and ends its own reply; one in its making refuses the request."""

    class Broken(Words):
        def accept(self, token: int) -> None:
            raise RuntimeError("injected")

    def impossible() -> Words:
        raise ValueError("no such grammar")

    async with running(base, tmp_path) as engine:
        free = await engine.tokens(base.name, PROMPT)
        breaking = replace(GREEDY, grammar=lambda: Broken([{60}]))
        failing = await engine.submit(base.name, PROMPT, breaking)
        other = asyncio.create_task(engine.tokens(base.name, PROMPT))
        with pytest.raises(GenerationFailed, match="broke off"):
            await read(failing)
        assert await other == free
        with pytest.raises(ValueError, match="no such grammar"):
            await engine.submit(base.name, PROMPT, replace(GREEDY, grammar=impossible))
    assert "injected" in caplog.text
