"""One adapter, one answer: in evaluations, from the server's engine, merged and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from adapters.base import Base, find_base, read_base
from adapters.registry import Registry
from server.engine.types import SamplingParams
from tests.demo import Demo
from tests.server.engine.harness import running
from training.data.token_cache import load_tokenizer
from training.export.exports import Source, export_gguf, export_peft, merge
from training.export.probe import probe_dialogues
from training.scores.questions import PROMPTS_FILE, asked, read_prompts
from training.scores.replies import end_tokens, greedy

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(700),
    # PEFT asks transformers by a name that transformers 5.23 deprecates.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
LENGTH = 40
GREEDY = SamplingParams(temperature=0.0, max_tokens=LENGTH, repetition_penalty=1.0)
Replies = list[list[int]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def source(demo: Demo) -> Source:
    """The demo's cat, which has really been trained, over pocket."""
    entry = Registry(demo.home.registry).get("cat")
    manifest = entry.manifest
    return Source(
        "cat",
        entry.path,
        find_base("pocket", demo.home),
        probe_dialogues(None),
        manifest.system_prompt,
        manifest.sampling,
    )


@pytest.fixture(scope="module")
def prompts(source: Source) -> list[tuple[int, ...]]:
    """The bundled prompts, rendered with the adapter's system prompt."""
    tokenizer = load_tokenizer(source.base.path)
    turns = read_prompts(PROMPTS_FILE)
    return [asked(each, tokenizer, source.system_prompt).prompt for each in turns]


@pytest.fixture(scope="module")
def ends(source: Source) -> frozenset[int]:
    return end_tokens(source.base, load_tokenizer(source.base.path))


@pytest.fixture(scope="module")
def expected(source: Source, prompts: list[tuple[int, ...]], ends: frozenset[int]) -> Replies:
    """What evaluations get, in batches."""
    tuned = PeftModel.from_pretrained(loaded(source.base.path), source.path)
    found = [list(each.ids) for each in greedy(tuned.get_base_model(), prompts, ends, LENGTH)]
    assert len({tuple(each) for each in found}) > len(found) // 2, "it has more than one answer"
    return found


def loaded(path: Path, **more: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **more).eval()


def generated(model: Any, prompts: list[tuple[int, ...]], ends: frozenset[int]) -> Replies:
    """By transformers' own loop, one prompt after the other."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=LENGTH,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=sorted(ends),
            )
        found.append([token for token in out[0, len(prompt) :].tolist() if token not in ends])
    return found


async def served(
    base: Base, registry: Path, model: str, prompts: list[tuple[int, ...]], ends: frozenset[int]
) -> Replies:
    """By the server's engine."""
    async with running(base, registry) as engine:
        replies = [await engine.tokens(model, prompt, GREEDY) for prompt in prompts]
    return [[token for token in reply if token not in ends] for reply in replies]


async def test_the_server_answers_as_evaluations_do(
    demo: Demo,
    source: Source,
    prompts: list[tuple[int, ...]],
    ends: frozenset[int],
    expected: Replies,
) -> None:
    """Token by token, greedily, in fp32."""
    registry = demo.home.registry

    assert await served(source.base, registry, "cat", prompts, ends) == expected


async def test_merged_it_answers_as_before(
    source: Source,
    prompts: list[tuple[int, ...]],
    ends: frozenset[int],
    expected: Replies,
    tmp_path: Path,
) -> None:
    """The merged base, served as a base, in fp32."""
    merge(source, tmp_path / "merged", "fp32")
    base = read_base(tmp_path / "merged", "merged")

    assert await served(base, tmp_path / "none", "merged", prompts, ends) == expected


def test_exported_it_answers_as_before(
    source: Source,
    prompts: list[tuple[int, ...]],
    ends: frozenset[int],
    expected: Replies,
    tmp_path: Path,
) -> None:
    """As PEFT's directory and as a GGUF file, both in the hands of other people's code."""
    export_peft(source, tmp_path / "peft")
    export_gguf(source, tmp_path / "gguf", "fp32")

    as_peft = PeftModel.from_pretrained(loaded(source.base.path), tmp_path / "peft")
    as_gguf = loaded(
        tmp_path / "gguf",
        gguf_file="cat-FP32.gguf",
        config=AutoConfig.from_pretrained(source.base.path),
    )

    assert generated(as_peft, prompts, ends) == expected
    assert generated(as_gguf, prompts, ends) == expected
