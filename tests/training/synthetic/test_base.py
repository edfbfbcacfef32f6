"""The random base and its tokenizer: a real checkpoint that behaves as a trained one does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.base import Architecture, read_architecture, read_base
from server.engine.spec import read_spec
from server.engine.tokenizer import Tokenizer, byte_pieces
from training.synthetic.base import (
    QWEN3_0_6B,
    QWEN3_FIRST_CONTROL_TOKEN,
    RandomTensor,
    make_random_base,
    random_tensors,
    write_weights,
)
from training.synthetic.tokenizer import random_tokenizer

SMALL = Architecture(
    model_type="qwen3",
    hidden_size=128,
    intermediate_size=256,
    layers=6,
    heads=4,
    kv_heads=2,
    head_dim=32,
    vocab_size=4096,
    context_length=512,
)
CONTROL = 4000


def make(path: Path, **arguments: Any) -> Path:
    return make_random_base(path, SMALL, first_control_token=CONTROL, **arguments)


def digests(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("random") / "base")


def test_it_is_a_base_like_any_other(base: Path) -> None:
    """Our reader, our engine's reader and our tokenizer take it; a reply ends with <|im_end|>."""
    found = read_base(base, "base")

    assert found.architecture == read_architecture(base) == SMALL
    assert read_spec(found).is_head_tied
    assert Tokenizer(found).end_tokens == {CONTROL, CONTROL + 2}


def test_its_shape_is_that_of_qwen3(base: Path) -> None:
    """Transformers finds every tensor of its Qwen3 in bf16, no other, and 596 M in the real one."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with safe_open(base / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping

    expected = {name: value.shape for name, value in model.named_parameters()}
    assert {name: value.shape for name, value in stored.items()} == expected
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert sum(tensor.count for tensor in random_tensors(QWEN3_0_6B)) == 596_049_920


def test_the_seed_decides_every_byte(base: Path, tmp_path: Path) -> None:
    """Equal seeds give equal files, another seed other weights and nothing else."""
    again, other = make(tmp_path / "again"), make(tmp_path / "other", seed=1)

    assert digests(again) == digests(base)
    differing = {name for name, digest in digests(other).items() if digest != digests(base)[name]}
    assert differing == {"model.safetensors"}


def test_logits_are_as_peaked_as_was_asked(base: Path) -> None:
    """Their deviation is 4, and the input's own token is no likelier than others."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokens = torch.randint(300, CONTROL, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(tokens).logits

    own = logits.gather(2, tokens.unsqueeze(2))
    assert logits.std(-1).mean().item() == pytest.approx(4.0, abs=0.3)
    assert abs(own.mean().item()) < 2.0


def test_a_piece_ends_where_memory_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of several pieces is whole and random throughout; a constant one is constant."""
    monkeypatch.setattr("training.synthetic.base.PIECE", 100)
    tensors = [RandomTensor("random", (25, 10), 2.0, 5.0), RandomTensor("same", (7,), mean=1.5)]
    said: list[tuple[int, int]] = []

    write_weights(tmp_path / "w", tensors, 0, lambda done, total, _: said.append((done, total)))

    with safe_open(tmp_path / "w", "pt") as file:
        random, same = file.get_tensor("random").float(), file.get_tensor("same")
    assert random.shape == (25, 10)
    assert random.unique().numel() > 150
    assert random.mean().item() == pytest.approx(5.0, abs=0.5)
    assert random.std().item() == pytest.approx(2.0, abs=0.3)
    assert same.tolist() == [1.5] * 7
    assert len(said) == 4


def test_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    """Neither half a base nor what was staged; an older base stays as it was."""
    make(tmp_path / "base")
    before = digests(tmp_path / "base")

    def interrupt(_done: int, _total: int, _note: str) -> None:
        raise KeyboardInterrupt

    for name in ("base", "new"):
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / name, seed=1, on_progress=interrupt)

    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert digests(tmp_path / "base") == before


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    """In millions of weights."""
    said: list[tuple[int, int, str]] = []

    make(tmp_path / "base", on_progress=lambda *told: said.append(told))

    millions = sum(tensor.count for tensor in random_tensors(SMALL)) // 10**6
    assert said[-1] == (millions, millions, "million weights")


def test_qwen3s_vocabulary_is_full_of_readable_tokens() -> None:
    """151,936 tokens, control tokens where Qwen has them, 0.3 % without text of their own."""
    size = QWEN3_0_6B.vocab_size
    tokenizer = random_tokenizer(size, QWEN3_FIRST_CONTROL_TOKEN, context_length=4096)
    pieces, _ = byte_pieces(tokenizer)

    def is_readable(piece: bytes) -> bool:
        return bool(piece) and "\N{REPLACEMENT CHARACTER}" not in piece.decode(errors="replace")

    assert (len(tokenizer), len(pieces)) == (size, size)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 151_645
    assert sum(not is_readable(piece) for piece in pieces) / size < 0.004
    assert len({pieces[index] for index in range(256, QWEN3_FIRST_CONTROL_TOKEN)}) == 151_643 - 256


def test_text_survives_and_roles_are_one_token(base: Path) -> None:
    """Whatever is encoded is decoded, and the template costs what Qwen's does."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = "你好，世界！ Hello\n🙂 «ß»"

    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for role in ("system", "user", "assistant"):
        assert len(tokenizer(role)["input_ids"]) == 1
