"""Merged and exported adapters: what others load answers as the adapter does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import msgspec
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapters.base import Base, read_base
from adapters.registry import Registry
from tests.tiny import random_adapter, tiny_base
from training.data.token_cache import load_tokenizer
from training.errors import ExportFailed
from training.export import exports
from training.export.exports import Source, export_gguf, export_ollama, export_peft, merge
from training.export.gguf_file import differences


def test_a_merged_base_is_what_peft_would_merge(source: Source, tmp_path: Path) -> None:
    """Every tensor, in fp32 to rounding, with names, shapes and the rest as the base has them."""
    found = merge(source, tmp_path / "m", "fp32")

    model = AutoModelForCausalLM.from_pretrained(source.base.path, dtype=torch.float32)
    expected = PeftModel.from_pretrained(model, source.path).merge_and_unload().state_dict()
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    before = load_file(source.base.path / "model.safetensors")
    assert tensors.keys() == before.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    changed = {name for name in tensors if not torch.equal(tensors[name], before[name])}
    assert len(changed) == 2 * 3, "two layers, three projections"
    assert found.mean_kl < 1e-9
    assert found.same_choice == 1
    assert found.tokens == sum(len(r.encode()) + 1 for r in ("多喝水吧", "睡吧", "数羊吧"))


def test_bf16_is_rounded_once_and_measured(source: Source, tmp_path: Path) -> None:
    """The default: the sum in fp32, then bf16; what that changes is said, not hidden."""
    found = merge(source, tmp_path / "half")
    merge(source, tmp_path / "full", "fp32")

    half = load_file(tmp_path / "half" / "model.safetensors")
    full = load_file(tmp_path / "full" / "model.safetensors")
    assert all(torch.equal(half[name], full[name].bfloat16()) for name in full)
    assert 0 < found.mean_kl < 0.02
    assert found.largest_logit_difference > 0
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_a_merged_base_carries_the_adapters_sampling(source: Source, tmp_path: Path) -> None:
    """Servers read it from generation_config.json; what ends a reply stays there."""
    (source.base.path / "generation_config.json").write_text('{"eos_token_id": [258, 256]}')
    try:
        merge(source, tmp_path / "m")
    finally:
        (source.base.path / "generation_config.json").unlink()

    written = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert written == {
        "eos_token_id": [258, 256],
        "temperature": 0.3,
        "repetition_penalty": 1.1,
        "do_sample": True,
    }


def test_a_sharded_base_stays_sharded(source: Source, tmp_path: Path) -> None:
    """File by file, with an index that tells the new size."""
    shutil.copytree(source.base.path, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    model = AutoModelForCausalLM.from_pretrained(source.base.path)
    model.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    sharded = msgspec.structs.replace(source, base=read_base(tmp_path / "base", "sharded"))

    found = merge(sharded, tmp_path / "m")

    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    files = {path.name: path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors")}
    assert files.keys() == set(index["weight_map"].values())
    assert len(files) > 1
    assert index["metadata"]["total_size"] == sum(files.values())
    assert found.mean_kl < 0.02


def test_an_exported_peft_directory_is_the_adapter(source: Source, tmp_path: Path) -> None:
    """The same bytes of weights; its config leads to the base, and it can be registered again."""
    found = export_peft(source, tmp_path / "out")

    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(source.base.path)
    assert found.largest_logit_difference == 0
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (source.path / weights).read_bytes()
    registry = Registry(tmp_path / "registry")
    assert registry.register(tmp_path / "out", "cat", source.base).manifest.rank == 3


def test_a_registered_adapter_can_go_the_way_round(source: Source, tmp_path: Path) -> None:
    """Its manifest goes along, so that what is registered elsewhere has the same prompt."""
    registry = Registry(tmp_path / "one")
    entry = registry.register(source.path, "cat", source.base)

    export_peft(msgspec.structs.replace(source, path=entry.path), tmp_path / "out")

    again = Registry(tmp_path / "two").register(tmp_path / "out", "cat", source.base)
    plain = msgspec.structs.replace(entry.manifest, files=())
    assert msgspec.structs.replace(again.manifest, files=()) == plain


def test_ollama_gets_a_merged_base_and_a_modelfile(source: Source, tmp_path: Path) -> None:
    """System prompt, sampling and what ends a reply are the adapter's."""
    export_ollama(source, tmp_path / "out")

    lines = (tmp_path / "out" / "Modelfile").read_text("utf-8").splitlines()
    assert lines[0] == "FROM ."
    assert 'SYSTEM """你是一只猫。"""' in lines
    assert lines[-4:] == [
        "PARAMETER temperature 0.3",
        "PARAMETER repeat_penalty 1.1",
        "PARAMETER num_predict 60",
        'PARAMETER stop "<|im_end|>"',
    ]
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_gguf_file_holds_the_merged_base(source: Source, dtype: str, tmp_path: Path) -> None:
    """llama.cpp's own package reads it back, and transformers' reader computes the same."""
    found = export_gguf(source, tmp_path / "out", dtype)

    file = tmp_path / "out" / f"cat-{dtype.upper()}.gguf"
    reader = gguf.GGUFReader(file)
    text = {name: field.contents() for name, field in reader.fields.items()}
    assert text["general.architecture"] == "qwen3"
    assert text["tokenizer.ggml.pre"] == "gpt-2"
    assert text["tokenizer.ggml.tokens"][258] == "<|im_end|>"
    assert text["qwen3.attention.key_length"] == source.base.architecture.head_dim
    assert found.mean_kl <= exports.MOST_KL[dtype]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Modelfile", file.name]


def test_a_gguf_file_that_is_not_the_checkpoint_is_seen(source: Source, tmp_path: Path) -> None:
    """One number in one tensor is enough."""
    export_gguf(source, tmp_path / "out", "fp32")
    merge(source, tmp_path / "m", "fp32")
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    merged = read_base(tmp_path / "m", "m")

    found = differences(merged, load_tokenizer(merged.path), tmp_path / "out" / "cat-FP32.gguf")

    assert found == ["blk.1.ffn_down.weight differs"]


@pytest.mark.parametrize(("family", "named"), [("llama", "a llama model"), ("qwen3", "tokenizer")])
def test_what_was_not_verified_for_gguf_is_refused_by_name(
    family: str, named: str, source: Source, tmp_path: Path
) -> None:
    """Llama stores its heads in another order; an unknown tokenizer would cut in other places."""
    base = read_base(tiny_base(tmp_path / "base", family), "other")
    adapter = random_adapter(tmp_path / "a", base.path)
    other = msgspec.structs.replace(source, base=base, path=adapter)

    with pytest.raises(ExportFailed, match=named):
        export_gguf(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_does_not_answer_as_the_adapter_is_not_left_behind(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that loses the adapter is found by comparing, and gone."""
    monkeypatch.setattr("training.export.merge.read_factors", lambda _: {})

    with pytest.raises(ExportFailed, match="does not answer as the adapter does"):
        merge(source, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(source: Source, tmp_path: Path) -> None:
    """A directory with something in it stays as it is; an empty one may be used."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(ExportFailed, match="is there already"):
        merge(source, tmp_path / "full")
    merge(source, tmp_path / "empty")

    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_an_adapter_of_another_base_cannot_be_merged(
    source: Source, tmp_path: Path, base: Base
) -> None:
    """A tensor that the base lacks is named."""
    deep = read_base(tiny_base(tmp_path / "deep", num_hidden_layers=3), "deep")
    adapter = random_adapter(tmp_path / "a", deep.path)
    wrong = msgspec.structs.replace(source, path=adapter)

    with pytest.raises(ExportFailed, match=r"model\.layers\.2\."):
        merge(wrong, tmp_path / "m")
