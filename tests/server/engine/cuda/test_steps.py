"""Steps with pieces of prompts: of few sizes, with tokens that are none, or too large for them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Rows
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.base import Base
from server.engine import runner
from server.engine.config import EngineConfig
from server.engine.cuda.graphs import Graphs
from server.engine.cuda.steps import LEAST_TOKENS, MOST_SPLITS, CudaSteps
from server.engine.sequence import Chunk
from tests.server.engine.harness import prompt_of
from tests.server.engine.scripted import sequence

SIZES = (32, 64, 80)


@pytest.fixture
def steps(base: Base, computed_on: str, tmp_path: Any) -> CudaSteps:
    config = EngineConfig(
        base=base,
        registry_root=tmp_path,
        weights="fp32",
        device=computed_on,  # type: ignore[arg-type] # one of its names
        max_running=4,
        max_context=128,
        kv_cache_tokens=512,
        prefill_chunk_tokens=64,
    )
    found = runner.Runner(config)._steps
    assert isinstance(found, CudaSteps)
    return found


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was replayed, and its size."""
    noted: list[tuple[str, int]] = []
    plain = Graphs.replay

    def replay(self: Graphs[Any], size: int, *variant: Any) -> None:
        noted.append((self._play.__name__, size))
        plain(self, size, *variant)

    monkeypatch.setattr(Graphs, "replay", replay)
    return noted


class Tape:
    """Notes what is played and recorded; what it recorded is played when it is replayed."""

    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    def play(self, play: Callable[[], None]) -> None:
        play()
        self._noted.append("played")

    def record(self, play: Callable[[], None]) -> Any:
        play()
        self._noted.append("recorded")
        return SimpleNamespace(replay=play)


def chunk_of(key: int, count: int, *, prompt: int | None = None, start: int = 0) -> Chunk:
    one = sequence(key, prompt_of(prompt or start + count, seed=key))
    one.blocks = array("i", range(8 * key, 8 * key + 8))
    return Chunk(one, start, count)


def alone(steps: CudaSteps, chunks: Rows[Chunk]) -> torch.Tensor:
    """Logits of what ``chunks`` sample, by a step that has their size."""
    count = sum(chunk.count for chunk in chunks)
    with torch.inference_mode():
        steps._pieces.send(chunks, {}, count)
        step = steps._pieces.step(count, max_rank=0)
        hidden = steps._decoder.hidden(step, steps._sampler.drawn, steps._cache)
        sampled = steps._pieces.sampled[: sum(chunk.is_sampled for chunk in chunks)]
        return steps._decoder.logits(hidden[sampled]).cpu()


def launch(steps: CudaSteps, chunks: Rows[Chunk]) -> list[int | None]:
    """What is drawn."""
    with torch.inference_mode():
        return [drawn.token for _, drawn in steps.launch(chunks)()]  # type: ignore[union-attr] # nothing is scored


def assert_like_alone(steps: CudaSteps, chunks: Rows[Chunk]) -> None:
    drawn = launch(steps, chunks)
    logits = steps._sampler.logits[: len(drawn)].cpu()
    torch.testing.assert_close(logits, alone(steps, chunks), rtol=1e-4, atol=1e-4)


def test_every_number_of_tokens_has_room_and_company_of_none(
    steps: CudaSteps, replayed: list[tuple[str, int]]
) -> None:
    """Of one prompt, and with a single token beside it: logits are those of a step without rest."""
    for count in (*range(2, LEAST_TOKENS + 2), 63, 64):
        replayed.clear()
        assert_like_alone(steps, [chunk_of(0, count)])
        assert replayed == [("_body", next(size for size in SIZES if size >= count)), ("_head", 1)]
    for count in range(2, LEAST_TOKENS + 1):
        replayed.clear()
        assert_like_alone(steps, [chunk_of(1, 1), chunk_of(2, count)])
        assert replayed == [
            ("_body", next(size for size in SIZES if size > count)),
            ("_head", 2),
        ]


def test_all_that_run_may_come_in_pieces(steps: CudaSteps, replayed: list[tuple[str, int]]) -> None:
    """Three draw, of four rows that there can be; the fourth goes on with its prompt."""
    chunks = [chunk_of(0, 1), chunk_of(1, 17), chunk_of(2, 15), chunk_of(3, 35, prompt=60)]
    assert_like_alone(steps, chunks)
    assert replayed == [("_body", 80), ("_head", 4)]


def test_where_nothing_is_drawn_there_is_no_head(
    steps: CudaSteps, replayed: list[tuple[str, int]]
) -> None:
    """The middle of a long prompt, one token of it as well; the end is as of one piece."""
    whole = chunk_of(0, 60)
    expected = alone(steps, [whole])
    for start, count in ((0, 33), (33, 1)):
        assert launch(steps, [Chunk(whole.sequence, start, count)]) == []
    assert replayed == [("_body", 64), ("_body", 32)]

    assert len(launch(steps, [Chunk(whole.sequence, 34, 26)])) == 1

    found = steps._sampler.logits[:1].cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engine.cuda.steps.MOST_TOKENS", 32)


@pytest.mark.usefixtures("small_graphs")  # before the steps are made
def test_what_is_too_large_for_graphs_is_computed_at_its_size(
    steps: CudaSteps, replayed: list[tuple[str, int]]
) -> None:
    """More tokens than the largest has; smaller steps are graphs all the same."""
    assert_like_alone(steps, [chunk_of(0, 33)])
    assert replayed == []
    assert_like_alone(steps, [chunk_of(1, 32)])
    assert replayed == [("_body", 32), ("_head", 1)]


def test_kernels_are_compiled_for_all_graphs_before_one_is_recorded(
    steps: CudaSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one layer, which launches them all; graphs are of all layers, as are steps thereafter."""
    kernels, noted = steps._kernels, []
    every = steps._single_graphs, steps._bodies, steps._heads
    attend = kernels.attend

    def attend_and_note(*inputs: Any, **settings: Any) -> torch.Tensor:
        noted.append("layer")
        return attend(*inputs, **settings)

    def precompile(play: Callable[[], None]) -> None:
        noted.append("compile")
        play()

    monkeypatch.setattr(kernels, "attend", attend_and_note)
    monkeypatch.setattr(kernels, "precompile", precompile)
    with torch.inference_mode():
        steps._record(Tape(noted))

    tokens = 2 * (len(steps._single_graphs._sizes) + len(SIZES))
    heads = len(steps._heads._sizes)
    played = [*["layer", "played"] * tokens, *["played"] * heads]
    recorded = [
        *["layer", "layer", "played", "layer", "layer", "recorded"] * tokens,
        *["played", "recorded"] * heads,
    ]
    assert noted == ["compile", *played, *recorded]
    assert sum(map(len, every)) == tokens + heads
    assert_like_alone(steps, [chunk_of(0, 33)])


def test_where_nothing_can_be_compiled_early_the_engine_is_whole(
    steps: CudaSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is stopped meanwhile: no layer is left out later."""

    def precompile(play: Callable[[], None]) -> None:
        raise KeyboardInterrupt

    whole = steps._decoder
    monkeypatch.setattr(steps._kernels, "precompile", precompile)
    with pytest.raises(KeyboardInterrupt):
        steps._record(Tape([]))
    assert steps._decoder is whole


@pytest.fixture
def large_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engine.cuda.steps.multiprocessors", lambda _: 132)


@pytest.mark.usefixtures("large_gpu")  # before the steps are made
def test_texts_are_cut_so_that_the_whole_gpu_works(steps: CudaSteps) -> None:
    """In two or more parts, twice as often until there are enough, with a counter for each text."""
    cut = {rows: steps._split(rows) for rows in range(1, 140)}
    assert {1 if split is None else split.programs for split in cut.values()} > {1, 2, 4, 8}
    for rows, split in cut.items():
        texts = rows * steps._kv_heads
        if split is None:
            assert 2 * texts > 2 * 132
        else:
            assert split.programs * texts <= 2 * 132
            assert split.programs == MOST_SPLITS or 2 * split.programs * texts > 2 * 132
            assert len(split.arrived) >= texts
            assert not split.arrived.any()
