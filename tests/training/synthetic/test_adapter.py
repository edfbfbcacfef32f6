"""Random adapters: real PEFT directories that are heard and do not drown the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Base, read_base
from adapters.registry import Registry
from tests.training.synthetic.test_base import make
from training.sides.peft_batch import PeftBatch
from training.synthetic.adapter import make_random_adapter

pytestmark = pytest.mark.filterwarnings(
    # peft 0.21 looks for an adapter's base on the hub when it is saved, and says so
    "ignore:Could not find a config file:UserWarning"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(make(tmp_path_factory.mktemp("random") / "base"), "random")


def test_it_can_be_registered_as_it_is(base: Base, tmp_path: Path) -> None:
    """No word for its base is needed; rank and alpha are those of the recipe."""
    made = make_random_adapter(tmp_path / "one", base, seed=1)

    manifest = Registry(tmp_path / "registry").register(made, "one", base).manifest

    assert (manifest.rank, manifest.alpha, len(manifest.target_modules)) == (16, 32, 7)


def test_equal_seeds_give_equal_adapters(base: Base, tmp_path: Path) -> None:
    """And other seeds others."""
    paths = [
        make_random_adapter(tmp_path / name, base, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, same, other = [(path / "adapter_model.safetensors").read_bytes() for path in paths]

    assert first == same
    assert first != other


def test_it_changes_the_logits_and_the_base_still_decides(base: Base, tmp_path: Path) -> None:
    """PEFT loads it; what it adds is heard, and the logits keep their size and likeness."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    tokens = torch.arange(300, 364).unsqueeze(0)
    with torch.inference_mode():
        before = model(tokens).logits.flatten()
        tuned = PeftModel.from_pretrained(
            model, make_random_adapter(tmp_path / "one", base, seed=1)
        ).eval()
        after = tuned(tokens).logits.flatten()

    likeness = torch.corrcoef(torch.stack([before, after]))[0, 1].item()
    assert 0.6 < likeness < 0.99
    assert after.std().item() == pytest.approx(before.std().item(), rel=0.1)


def test_pefts_mixed_batch_is_timed_step_by_step(base: Base, tmp_path: Path) -> None:
    """As many times as steps, with two adapters in one batch; one that is not loaded is refused."""
    paths = {name: make_random_adapter(tmp_path / name, base, seed=1) for name in ("one", "two")}
    batch = PeftBatch(base, paths)
    prompts = [[300 + row, 310, 320] for row in range(3)]

    times = batch.step_times(prompts, ["one", "two", "one"], steps=5)

    assert len(times) == 5
    assert min(times) > 0
    with pytest.raises(ValueError, match="three"):
        batch.step_times(prompts, ["one", "two", "three"], steps=5)
