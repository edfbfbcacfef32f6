"""Loading bases and adapters: what does not fit is refused by name, never ignored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import Base, read_base
from adapters.errors import AdapterInvalid, BaseInvalid, RegistryCorrupt
from server.engine.adapter import load_adapter
from server.engine.lora import ActiveAdapters, LoadedAdapter, concatenated
from server.engine.spec import read_spec
from server.engine.weights import load_weights
from tests.server.engine.harness import Publish
from tests.tiny import tiny_base

CPU = torch.device("cpu")


def changed(base: Base, path: Path, **config: Any) -> Base:
    """A copy of ``base`` with other entries in its config.json."""
    shutil.copytree(base.path, path)
    known = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(known | config))
    return read_base(path, "changed")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "dynamic",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"num_attention_heads": 3}, "heads"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_asks_for_more_is_refused(
    config: dict[str, Any], named: str, base: Base, tmp_path: Path
) -> None:
    """The text names the field: the reply would be wrong without a sign of it."""
    with pytest.raises(BaseInvalid, match=named):
        read_spec(changed(base, tmp_path / "base", **config))


def test_tensors_that_are_missing_unknown_or_misshapen_are_refused(
    base: Base, tmp_path: Path
) -> None:
    """Every tensor is accounted for, by name."""
    spec = read_spec(base)
    tensors = load_file(base.path / "model.safetensors")
    key = "model.layers.1.mlp.up_proj.weight"
    cases = {
        f"lacks the tensor {key}": {name: t for name, t in tensors.items() if name != key},
        "does not know: model.layers.0.mlp.extra": tensors
        | {"model.layers.0.mlp.extra": tensors[key].clone()},
        f"{key} is": tensors | {key: tensors[key][:-1].clone()},
    }
    for number, (text, content) in enumerate(cases.items()):
        path = tmp_path / str(number)
        path.mkdir()
        save_file(content, path / "model.safetensors")
        with pytest.raises(BaseInvalid, match=text):
            load_weights(path, spec, dtype=torch.float32, device=CPU)


def test_what_old_exporters_add_does_not_matter(base: Base, tmp_path: Path) -> None:
    """A tied head that is stored all the same, and precomputed rope frequencies."""
    tensors = load_file(base.path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(16)
    save_file(tensors, tmp_path / "model.safetensors")
    weights = load_weights(tmp_path, read_spec(base), dtype=torch.float32, device=CPU)
    assert weights.head.weight is weights.embedding


def test_loaded_weights_do_not_follow_the_file(tmp_path: Path) -> None:
    """Nothing stays memory-mapped: who overwrites a checkpoint in place does not change replies."""
    path = tiny_base(tmp_path / "base", "llama")
    weights = load_weights(path, read_spec(read_base(path, "b")), dtype=torch.float32, device=CPU)
    kept = [weights.embedding, weights.norm, weights.layers[0].qkv.weight, weights.head.weight]
    before = [tensor.clone() for tensor in kept]
    file = path / "model.safetensors"
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(bytes(file.stat().st_size // 2))
    assert all(torch.equal(tensor, old) for tensor, old in zip(kept, before, strict=True))


def test_an_adapter_that_changed_on_disk_is_refused(base: Base, publish: Publish) -> None:
    """The bytes that are parsed are the bytes that were hashed."""
    entry = publish("a")
    weights = entry.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(RegistryCorrupt):
        load_adapter(entry, base, dtype=torch.float32, device=CPU)


def test_an_adapter_of_another_shape_is_refused_tensor_by_tensor(
    bases: dict[str, Base], tmp_path: Path
) -> None:
    """An adapter for another base is no adapter for this one, whatever its record says."""
    entry = Publish(bases["qwen3"], tmp_path / "registry", tmp_path / "sources")("a")
    with pytest.raises(AdapterInvalid, match=r"layers\.0\.self_attn\.q_proj\.lora_B\.weight is"):
        load_adapter(entry, bases["llama"], dtype=torch.float32, device=CPU)


def test_stacked_adapters_act_as_each_does_alone(base: Base, publish: Publish) -> None:
    """Columns, outputs and owners stay in step for any ranks and subsets side by side."""
    adapters = [
        LoadedAdapter(
            name,
            load_adapter(publish(name, seed, **settings), base, dtype=torch.float32, device=CPU),
        )
        for seed, (name, settings) in enumerate(
            {
                "all": {},
                "few": {"rank": 2, "targets": ("v_proj", "gate_proj")},
                "one": {"rank": 9, "targets": ("k_proj",)},
            }.items()
        )
    ]
    stack = concatenated([adapter.stack for adapter in adapters])
    x = torch.randn(3, base.architecture.hidden_size)
    width = base.architecture.head_dim * (4 + 2 * 2)
    together = torch.zeros(3, width)
    active = ActiveAdapters(CPU)
    active._stack_up(tuple(adapters))
    stack.layers[1]["qkv"].add(x, together, active._masks([2, 0, 1])["qkv"])
    for row, number in enumerate([2, 0, 1]):
        alone = torch.zeros(1, width)
        adapters[number].stack.layers[1]["qkv"].add(x[row : row + 1], alone, None)
        assert alone.abs().sum() > 0
        torch.testing.assert_close(together[row : row + 1], alone)
