"""Recipes: every hyperparameter of a training as one frozen value, read from TOML.

Units stand beside the fields in the default recipe's comments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from adapters.manifest import PROJECTIONS, SEED_SYSTEM_PROMPT, SamplingDefaults
from training.errors import RecipeError

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = "qwen3-0.6b-lccc"

Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Prompt(_Section, frozen=True, kw_only=True):
    """How dialogues are rendered. An empty ``system`` means no system prompt."""

    system: str = SEED_SYSTEM_PROMPT
    max_length: Annotated[int, msgspec.Meta(ge=16)] = 512


class Quantization(_Section, frozen=True, kw_only=True):
    """How the frozen base is held while training (NF4: Dettmers et al. 2023, QLoRA)."""

    kind: Literal["nf4", "none"] = "nf4"
    double: bool = True
    compute_dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"


class Lora(_Section, frozen=True, kw_only=True):
    """The low-rank update (Hu et al. 2021); its scale is ``alpha / r``."""

    r: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    alpha: Positive = 32.0
    dropout: Share = 0.1
    target_modules: Annotated[tuple[Projection, ...], msgspec.Meta(min_length=1)] = PROJECTIONS  # type: ignore[assignment]


class Training(_Section, frozen=True, kw_only=True):
    """The optimisation. ``batch_size`` counts dialogues, ``max_steps`` optimiser steps."""

    epochs: Positive = 3.0
    max_steps: CountOrNone = 0
    batch_size: Count = 2
    gradient_accumulation: Count = 4
    learning_rate: Positive = 2e-4
    scheduler: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: CountOrNone = 0
    weight_decay: NotNegative = 0.001
    max_grad_norm: Positive = 0.3
    optimizer: Literal["paged_adamw_32bit", "adamw_8bit", "adamw"] = "paged_adamw_32bit"
    gradient_checkpointing: bool = True
    seed: CountOrNone = 42

    @property
    def dialogues_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation


class Record(_Section, frozen=True, kw_only=True):
    """What is written down and when, in optimiser steps."""

    log_every: Count = 10
    evaluate_every: Count = 500
    save_every: Count = 500
    keep_checkpoints: Count = 3
    evaluation_dialogues: CountOrNone = 1000


class Generation(_Section, frozen=True, kw_only=True):
    """Sampling defaults that the adapter carries into the server."""

    max_tokens: Count = 100
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.3
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    repetition_penalty: Positive = 1.1

    def defaults(self) -> SamplingDefaults:
        """The same values as the manifest holds them."""
        return SamplingDefaults(**msgspec.structs.asdict(self))


class Recipe(_Section, frozen=True, kw_only=True):
    """A whole training as one value."""

    prompt: Prompt = Prompt()
    quantization: Quantization = Quantization()
    lora: Lora = Lora()
    training: Training = Training()
    record: Record = Record()
    generation: Generation = Generation()

    def toml(self) -> str:
        """The resolved recipe, readable by :func:`read_recipe`."""
        import tomli_w

        return tomli_w.dumps(msgspec.to_builtins(self))

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over the resolved values."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def bundled_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A bundled recipe by name or a TOML file, with ``key=value`` overrides applied.

    A key is ``section.field``, or ``field`` alone where only one section has it; a value is TOML,
    or plain text where the field is text.

    Raises:
        RecipeError: unreadable, unknown field, or a value out of range; names file and field.
    """
    path = RECIPES / f"{source}.toml"
    if "/" in str(source) or not path.is_file():
        path = Path(source)
    try:
        values = msgspec.toml.decode(path.read_bytes())
    except FileNotFoundError:
        raise RecipeError(
            f"No recipe '{source}': neither a file nor one of {', '.join(bundled_recipes())}."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        _apply(values, override)
    return _convert(values, str(path))


def decode_recipe(text: str, source: str) -> Recipe:
    """The recipe in ``text`` (TOML); ``source`` names it in errors."""
    return _convert(msgspec.toml.decode(text), source)


def _convert(values: Any, source: str) -> Recipe:
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        field = where.rstrip("`") or "recipe"
        raise RecipeError(f"{source}: {field}: {problem}.") from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override}: write it as key=value, e.g. --set lora.r=8.")
    section, name = _locate(key.strip())
    values.setdefault(section, {})[name] = _value(text.strip())


def _locate(key: str) -> tuple[str, str]:
    known = {
        section.name: [field.name for field in msgspec.structs.fields(section.type)]
        for section in msgspec.structs.fields(Recipe)
    }
    section, dot, name = key.rpartition(".")
    owners = [owner for owner, names in known.items() if name in names]
    if dot:
        owners = [owner for owner in owners if owner == section]
    if len(owners) == 1:
        return owners[0], name
    options = ", ".join(f"{owner}.{field}" for owner, names in known.items() for field in names)
    raise RecipeError(f"--set {key}: there is no such field. Fields: {options}.")


def _value(text: str) -> Any:
    try:
        return msgspec.toml.decode(f"value = {text}".encode())["value"]
    except msgspec.DecodeError:
        return text
