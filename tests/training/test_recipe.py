"""Recipes: defaults, overrides, and errors that name the field."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from training.errors import RecipeError
from training.recipe import Recipe, bundled_recipes, decode_recipe, read_recipe

SEED = {
    "prompt": {
        "system": "你是一个乐于助人的AI助手。",
        "max_length": 512,
        "roles": "last-assistant",
    },
    "quantization": {"kind": "nf4", "double": True, "compute_dtype": "auto"},
    "lora": {
        "kind": "lora",
        "r": 16,
        "alpha": 32.0,
        "dropout": 0.1,
        "target_modules": (
            *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"),
            *("up_proj", "down_proj"),
        ),
        "plus_ratio": 1.0,
    },
    "adalora": {"initial_r": 0, "start": 0.1, "end": 0.6, "every": 10, "orthogonality": 0.5},
    "training": {
        "mode": "exact",
        "tokens_per_forward": 0,
        "share_prefix": True,
        "learning_rate_scaling": "sqrt",
        "epochs": 3.0,
        "max_steps": 0,
        "batch_size": 2,
        "gradient_accumulation": 4,
        "learning_rate": 2e-4,
        "scheduler": "constant",
        "scheduler_options": {},
        "warmup_steps": 0,
        "weight_decay": 0.001,
        "max_grad_norm": 0.3,
        "optimizer": "paged_adamw_32bit",
        "gradient_checkpointing": "auto",
        "neftune_alpha": 0.0,
        "early_stopping_patience": 0,
        "early_stopping_min_delta": 0.0,
        "seed": 42,
    },
    "record": {
        "log_every": 10,
        "evaluate_every": 500,
        "save_every": 500,
        "keep_checkpoints": 3,
        "evaluation_dialogues": 1000,
        "sample_every": 0,
        "samples": 20,
    },
    "generation": {
        "max_tokens": 100,
        "temperature": 0.3,
        "top_p": 0.8,
        "repetition_penalty": 1.1,
    },
}


def test_the_default_recipe_is_the_seeds() -> None:
    """Every hyperparameter of the default recipe, and every default in code, is the seed's."""
    assert msgspec.to_builtins(read_recipe("qwen3-0.6b-lccc")) == SEED
    assert msgspec.to_builtins(Recipe()) == SEED


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_resolved_recipe_reads_back_the_same(name: str) -> None:
    """What a run keeps of its recipe is the recipe."""
    recipe = read_recipe(name)

    again = decode_recipe(recipe.toml(), "run")

    assert again == recipe
    assert again.sha256 == recipe.sha256


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("lora.r=8", "lora", "r", 8),
        ("r=8", "lora", "r", 8),
        ("training.learning_rate = 1e-3", "training", "learning_rate", 1e-3),
        ("prompt.system=你是一只猫。", "prompt", "system", "你是一只猫。"),
        ("prompt.system=", "prompt", "system", ""),
        ("scheduler=cosine", "training", "scheduler", "cosine"),
        ('lora.target_modules=["q_proj"]', "lora", "target_modules", ("q_proj",)),
        ("gradient_checkpointing=false", "training", "gradient_checkpointing", False),
        ("lora.kind=dora", "lora", "kind", "dora"),
        ("optimizer=lion_8bit", "training", "optimizer", "lion_8bit"),
        ("scheduler_options={num_cycles=2}", "training", "scheduler_options", {"num_cycles": 2.0}),
    ],
)
def test_an_override_sets_one_field(override: str, section: str, field: str, value: object) -> None:
    """A key is `section.field` or a unique `field`; a value is TOML, or else plain text."""
    changed = read_recipe("qwen3-0.6b-lccc", [override])

    assert getattr(getattr(changed, section), field) == value
    assert changed.sha256 != read_recipe("qwen3-0.6b-lccc").sha256


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("lora.rank=8", "lora.rank: there is no such field"),
        ("training.r=8", "training.r: there is no such field"),
        ("lora.r", "write it as key=value"),
        ("lora.r=0", "lora.r: Expected `int` >= 1"),
        ("lora.r=eight", "lora.r: Expected `int`, got `str`"),
        ("lora.dropout=1.0", "lora.dropout"),
        ('lora.target_modules=["lm_head"]', "lora.target_modules"),
        ("training.optimizer=adam", "training.optimizer"),
        ("gradient_checkpointing=some", "training.gradient_checkpointing: Invalid enum value"),
        ("gradient_checkpointing=14", "training.gradient_checkpointing: Expected `bool | str`"),
        ("generation.temperature=3", "generation.temperature"),
        ("generation.repetition_penalty=20", "generation.repetition_penalty"),
        ("generation.max_tokens=2000000", "generation.max_tokens"),
        ("training.seed=9223372036854775808", "training.seed"),
        ("training.epochs=1e7", "training.epochs"),
        ("training.epochs=inf", "training.epochs: a finite number is needed"),
        ("training.learning_rate=nan", "training.learning_rate: a finite number is needed"),
        ("scheduler_options={num_cycles=inf}", "training.scheduler_options.num_cycles: a finite"),
        ("prompt.system=\udcff", "prompt.system: the value is not valid UTF-8"),
        ("lora.kind=pissa", "lora.kind"),
        ("lora.plus_ratio=0.5", "lora.plus_ratio: Expected `float` >= 1"),
        ("quantization.kind=int4", "quantization.kind"),
        ("training.scheduler=greedy", "training.scheduler"),
        ("training.scheduler_options={num_cycles=true}", "training.scheduler_options"),
        ("training.neftune_alpha=-1", "training.neftune_alpha"),
        ("training.early_stopping_patience=-1", "training.early_stopping_patience"),
        ("adalora.end=0.1", "adalora: start (0.1) must be below end (0.1)"),
    ],
)
def test_a_wrong_override_is_refused_by_its_field(override: str, complaint: str) -> None:
    """As the user wrote it, and not as a fault of the recipe's file; but for two that disagree."""
    with pytest.raises(RecipeError) as caught:
        read_recipe("qwen3-0.6b-lccc", [override])

    assert complaint in str(caught.value)
    assert str(caught.value).startswith("--set ") or complaint.startswith("adalora: ")


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ("adalora.initial_r=16", "adalora.initial_r (16) must be above lora.r (16)"),
        ("quantization.kind=int8", "lora.kind adalora cannot go with quantization.kind int8"),
    ],
)
def test_what_adalora_does_not_go_with_is_refused(other: str, complaint: str) -> None:
    """Ranks to take away have to be there, and PEFT's int8 layers are broken for it."""
    with pytest.raises(RecipeError) as caught:
        read_recipe("qwen3-0.6b-lccc", ["lora.kind=adalora", other])

    assert complaint in str(caught.value)
    read_recipe("qwen3-0.6b-lccc", [other])


def test_adalora_begins_with_half_as_many_ranks_again() -> None:
    """Or with those asked for; the other kinds have theirs from the start."""
    kind = "lora.kind=adalora"

    assert read_recipe("qwen3-0.6b-lccc").initial_r == 16
    assert read_recipe("qwen3-0.6b-lccc", [kind]).initial_r == 24
    assert read_recipe("qwen3-0.6b-lccc", [kind, "lora.r=1"]).initial_r == 2
    assert read_recipe("qwen3-0.6b-lccc", [kind, "adalora.initial_r=40"]).initial_r == 40


def test_a_file_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    """A typo in a recipe file does not vanish silently; file and section are named."""
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nlearningrate = 1\n")

    with pytest.raises(RecipeError, match=r"mine\.toml: training: .*learningrate"):
        read_recipe(path)


def test_a_missing_recipe_lists_the_bundled_ones() -> None:
    """Whoever mistypes a recipe's name sees the names there are."""
    with pytest.raises(RecipeError, match=r"qwen3-0\.6b-lccc"):
        read_recipe("nonsense")
