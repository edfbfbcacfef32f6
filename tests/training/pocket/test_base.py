"""Building the pocket base: its tokenizer, its corpus, its files. Its quality: tests/e2e."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from adapters.base import read_base
from adapters.prompt import render_prompt
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.pocket.base import PocketShape, build_pocket, build_tokenizer
from training.pocket.corpus import Corpus, read_sample
from training.pocket.grammar import read_grammar

SHORT = PocketShape(steps=3, tokens_per_step=128)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as the full build makes it."""
    return build_tokenizer(PocketShape(), read_sample("everyday")["train"], read_grammar())


@pytest.fixture(scope="module")
def built(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pocket of a few steps, with the tokenizer that is there: it takes longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.pocket.base.build_tokenizer", lambda *_: tokenizer)
        return build_pocket(tmp_path_factory.mktemp("pocket") / "pocket", SHORT)


def test_every_character_of_the_samples_is_a_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """No character that an adapter may say is torn into bytes, and role names are one token."""
    samples = [read_sample(name)["train"] for name in ("everyday", "cat", "scholar")]
    characters = {c for sample in samples for dialogue in sample for line in dialogue for c in line}

    torn = [c for c in characters if len(tokenizer(c)["input_ids"]) != 1]

    assert torn == []
    assert [len(tokenizer(role)["input_ids"]) for role in ("user", "assistant", "system")] == [
        1
    ] * 3


@pytest.mark.parametrize("text", ["龘靐齉", "ภาษา", "🐱👍🏽", "a\tb\n c", "<|im_end|>"])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Bytes are tokens, so that what the samples do not know still comes back as it was."""
    assert tokenizer.decode(tokenizer(text, split_special_tokens=True)["input_ids"]) == text


def test_rows_are_what_the_chat_template_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    """The quick rendering of the corpus is token-identical to the exact one, mask included."""
    corpus = Corpus(tokenizer, [], read_grammar(), random.Random(0))
    system = "你是一个乐于助人的AI助手。"
    for dialogue in read_sample("everyday")["train"][::40]:
        for prompt in (None, system):
            row = corpus.chatml(dialogue, prompt)
            (exact,) = encode_dialogue(tokenizer, Dialogue(dialogue), Encoding(prompt, 512))
            assert row.ids[: len(exact.ids)] == exact.ids
            scored = [weight == 1.0 for weight in row.weights[: len(exact.ids)]]
            has_opening = len(dialogue) % 2  # an assistant's first line is read, not answered
            assert scored == exact.is_target or has_opening


def test_the_same_seed_builds_the_same_weights(built: Path, tmp_path: Path) -> None:
    """Deterministic: every file of a second build, its tokenizer's too, has the same bytes."""
    again = build_pocket(tmp_path / "pocket", SHORT)

    for path in built.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_it_loads_like_any_checkpoint(built: Path) -> None:
    """Transformers reads it as a Qwen3, our base reader too, and its template renders."""
    model = AutoModelForCausalLM.from_pretrained(built)
    tokenizer = AutoTokenizer.from_pretrained(built)
    base = read_base(built, "pocket")

    prompt = render_prompt(tokenizer, [{"role": "user", "content": "你好"}])
    assert model.config.model_type == base.architecture.model_type == "qwen3"
    assert model(torch.tensor([prompt])).logits.shape[-1] == len(tokenizer)
    assert tokenizer.decode(prompt) == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_broken_build_leaves_the_older_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base in use goes only when its successor is whole; progress is told on the way."""
    directory = tmp_path / "pocket"
    directory.mkdir()
    (directory / "config.json").write_text("old")
    told: list[tuple[int, int, str]] = []

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.pocket.base._save", broken)
    # as it is made
    monkeypatch.setattr("training.pocket.base.build_tokenizer", lambda *_: tokenizer)
    with pytest.raises(OSError, match="No space"):
        build_pocket(directory, SHORT, lambda *progress: told.append(progress))

    assert (directory / "config.json").read_text() == "old"
    assert [done for done, _, _ in told] == [1, 3]
