"""A source to export: a tiny base and a random adapter over it."""

from __future__ import annotations

import pytest

from adapters.base import Base, read_base
from adapters.manifest import SamplingDefaults
from tests.tiny import byte_tokenizer, random_adapter, tiny_base
from training.data.dialogue import Dialogue
from training.export.exports import Source

DIALOGUES = [Dialogue(["今天好热", "多喝水吧"]), Dialogue(["好困", "睡吧", "睡不着", "数羊吧"])]
SYSTEM = "你是一只猫。"


@pytest.fixture(scope="session")
def cutting_base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A tiny Qwen3 whose tokenizer cuts text as GPT-2's does."""
    from tokenizers import pre_tokenizers

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    path = tmp_path_factory.mktemp("bases") / "cutting"
    return read_base(tiny_base(path, tokenizer=tokenizer), "cutting")


@pytest.fixture(scope="session")
def source(cutting_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Rank-stabilised, on some projections only, so that scale and names have to be right."""
    path = random_adapter(
        tmp_path_factory.mktemp("adapters") / "cat",
        cutting_base.path,
        rank=3,
        targets=("q_proj", "v_proj", "down_proj"),
        use_rslora=True,
        std=0.1,
    )
    sampling = SamplingDefaults(max_tokens=60, temperature=0.3, repetition_penalty=1.1)
    return Source("cat", path, cutting_base, DIALOGUES, SYSTEM, sampling)
