"""The decoder against transformers and PEFT: greedy replies agree token for token in fp32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Base, read_base
from server.engine.native.build import library
from server.engine.types import SamplingParams
from tests.server.engine.harness import FAMILIES, GREEDY, prompt_of, running
from tests.tiny import tiny_base

needs_native = pytest.mark.skipif(library() is None, reason="needs a C compiler")
KERNELS = (pytest.param("native", marks=needs_native), "torch")

pytestmark = [
    pytest.mark.anyio,
    # PEFT asks transformers by a name that transformers 5.23 deprecates.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def reference(
    base: Path, adapter: Path | None, prompt: tuple[int, ...], **settings: Any
) -> list[int]:
    """What transformers (with PEFT) generates greedily."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_tokens,
            do_sample=False,
            **settings,
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kernels", KERNELS)
async def test_base_and_every_adapter_reply_as_transformers_and_peft_do(
    family: str,
    bases: dict[str, Base],
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
    kernels: str,
) -> None:
    """Norms, biases, rope, heads and LoRA of any rank, scaling and subset are theirs."""
    prompt = prompt_of(30)
    replies = []
    async with running(bases[family], registries[family], kernels=kernels) as engine:
        for name, path in [(family, None), *adapter_paths[family].items()]:
            reply = await engine.tokens(name, prompt)
            assert reply == reference(bases[family].path, path, prompt), name
            replies.append(tuple(reply))
    assert len(set(replies)) == 4, "base and adapters must differ, or nothing was shown"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_gpu_replies_as_the_cpu_does(
    family: str,
    bases: dict[str, Base],
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
) -> None:
    """The same code on CUDA tensors: prompt in chunks, then token by token, in fp32."""
    prompt = prompt_of(50)
    settings = {"device": "cuda", "prefill_chunk_tokens": 16}
    async with running(bases[family], registries[family], **settings) as engine:
        for name, path in [(family, None), *adapter_paths[family].items()]:
            assert await engine.tokens(name, prompt) == reference(bases[family].path, path, prompt)


@pytest.mark.parametrize("kernels", KERNELS)
async def test_one_token_is_prompt_enough(base: Base, tmp_path: Path, kernels: str) -> None:
    """The shortest prompt is computed as a single row and agrees too."""
    async with running(base, tmp_path, kernels=kernels) as engine:
        assert await engine.tokens(base.name, (65,)) == reference(base.path, None, (65,))


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("kernels", KERNELS)
async def test_a_prompt_in_chunks_gives_the_reply_of_the_whole(
    chunk: int,
    base: Base,
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
    kernels: str,
) -> None:
    """Later chunks see all of the earlier ones and nothing ahead, with an adapter as without."""
    prompt = prompt_of(100, seed=3)
    async with running(
        base, registries["qwen3"], prefill_chunk_tokens=chunk, kernels=kernels
    ) as engine:
        for name, path in (("qwen3", None), ("full", adapter_paths["qwen3"]["full"])):
            assert await engine.tokens(name, prompt) == reference(base.path, path, prompt), chunk


@pytest.mark.parametrize("kernels", KERNELS)
async def test_repetition_penalty_is_that_of_transformers(
    base: Base, tmp_path: Path, kernels: str
) -> None:
    """The penalty covers prompt and reply, in every step."""
    prompt = prompt_of(20, seed=5)
    sampling = SamplingParams(temperature=0.0, max_tokens=24, repetition_penalty=1.7)
    expected = reference(base.path, None, prompt, repetition_penalty=1.7)
    assert expected != reference(base.path, None, prompt), "the penalty must make a difference"
    async with running(base, tmp_path, kernels=kernels) as engine:
        assert await engine.tokens(base.name, prompt, sampling) == expected


ROPES = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
}


@pytest.mark.parametrize("kind", ROPES)
@pytest.mark.parametrize("kernels", KERNELS)
async def test_scaled_rope_agrees(kind: str, tmp_path: Path, kernels: str) -> None:
    """Each supported kind of rope scaling gives transformers' angles."""
    rope = {"rope_theta": 10000.0, **ROPES[kind]}
    path = tiny_base(tmp_path / "base", "llama", rope_parameters=rope)
    prompt = prompt_of(150, seed=2)
    expected = reference(path, None, prompt)
    plain = tiny_base(tmp_path / "plain", "llama")
    assert expected != reference(plain, None, prompt), "the scaling must make a difference"
    async with running(read_base(path, "scaled"), tmp_path / "none", kernels=kernels) as engine:
        assert await engine.tokens("scaled", prompt) == expected


@pytest.mark.parametrize("kernels", KERNELS)
async def test_old_spelling_of_rope_theta_agrees(base: Base, tmp_path: Path, kernels: str) -> None:
    """Checkpoints on the hub say ``rope_theta`` at the top level."""
    path = tiny_base(tmp_path / "base", "qwen3", rope_theta=500.0)
    config = json.loads((path / "config.json").read_text())
    config.pop("rope_parameters", None)
    (path / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}))
    prompt = prompt_of(60)
    expected = reference(path, None, prompt)
    assert expected != reference(base.path, None, prompt)
    async with running(read_base(path, "old"), tmp_path / "none", kernels=kernels) as engine:
        assert await engine.tokens("old", prompt) == expected


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("qwen3", {"tie_word_embeddings": False, "attention_bias": True}),
        ("qwen2", {"tie_word_embeddings": False, "num_key_value_heads": 4}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 24}),
    ],
)
@pytest.mark.parametrize("kernels", KERNELS)
async def test_variants_of_the_families_agree(
    family: str,
    shape: dict[str, Any],
    tmp_path: Path,
    kernels: str,
) -> None:
    """Biases, ties, head counts and head sizes follow the config."""
    path = tiny_base(tmp_path / "base", family, **shape)
    prompt = prompt_of(40)
    async with running(read_base(path, "variant"), tmp_path / "none", kernels=kernels) as engine:
        assert await engine.tokens("variant", prompt) == reference(path, None, prompt)


@pytest.mark.parametrize("kernels", KERNELS)
async def test_a_sharded_checkpoint_agrees(base: Base, tmp_path: Path, kernels: str) -> None:
    """Weights in several files are one checkpoint."""
    path = tmp_path / "sharded"
    tiny_base(path, "qwen3")
    AutoModelForCausalLM.from_pretrained(path).save_pretrained(path, max_shard_size="100KB")
    (path / "model.safetensors").unlink()
    assert len(list(path.glob("*.safetensors"))) > 1
    prompt = prompt_of(30)
    async with running(read_base(path, "sharded"), tmp_path / "none", kernels=kernels) as engine:
        assert await engine.tokens("sharded", prompt) == reference(base.path, None, prompt)
