"""Recipes: every hyperparameter of a training as one frozen value, read from TOML.

Units stand beside the fields in the default recipe's comments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from adapters.manifest import PROJECTIONS, SAMPLING_RANGES, SEED_SYSTEM_PROMPT, SamplingDefaults
from training.data.roles import RolePolicy
from training.errors import RecipeError
from training.settings import Section, SettingsFiles

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = "qwen3-0.6b-lccc"
FILLED_FORWARD = 4096  # tokens of a forward in throughput mode

Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
# transformers' names, without those that need another package or look at the validation loss.
Scheduler = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
]
# transformers' names for torch's, its own and bitsandbytes' optimisers; adamw is adamw_torch.
OptimizerName = Literal[
    "adamw",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "adagrad",
    "adafactor",
    "sgd",
]
Mode = Literal["exact", "throughput"]
GradientCheckpointing: TypeAlias = bool | Literal["auto"]
LearningRateScaling = Literal["sqrt", "linear", "none"]
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Prompt(Section, frozen=True, kw_only=True):
    """How dialogues are rendered. An empty ``system`` means no system prompt."""

    system: str = SEED_SYSTEM_PROMPT
    max_length: Annotated[int, msgspec.Meta(ge=16)] = 512
    roles: RolePolicy = "last-assistant"


class Quantization(Section, frozen=True, kw_only=True):
    """How the frozen base is held while training (NF4: Dettmers et al. 2023, QLoRA)."""

    kind: Literal["nf4", "int8", "none"] = "nf4"
    double: bool = True
    compute_dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"


class Lora(Section, frozen=True, kw_only=True):
    """The low-rank update (Hu et al. 2021); its scale is ``alpha / r``.

    ``kind``: ``rslora`` scales by ``alpha / sqrt(r)`` (Kalajdzievski 2023), ``dora`` learns the
    length of each output's weights apart (Liu et al. 2024), ``adalora`` lets projections compete
    for ranks (Zhang et al. 2023; the section :class:`AdaLora` says how) until they have ``r`` on
    average. ``plus_ratio`` is how much faster B learns than A (LoRA+, Hayou et al. 2024).
    """

    kind: Literal["lora", "rslora", "dora", "adalora"] = "lora"
    r: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    alpha: Positive = 32.0
    dropout: Share = 0.1
    target_modules: Annotated[tuple[Projection, ...], msgspec.Meta(min_length=1)] = PROJECTIONS  # type: ignore[assignment] # the same names
    plus_ratio: Annotated[float, msgspec.Meta(ge=1)] = 1.0

    @property
    def is_served(self) -> bool:
        """Whether the server can serve what comes of it: DoRA would change the shared base."""
        return self.kind != "dora"


class AdaLora(Section, frozen=True, kw_only=True):
    """How ``lora.kind = "adalora"`` takes ranks away; ignored by the other kinds.

    Each projection begins with ``initial_r`` ranks (0: one and a half times ``lora.r``). ``start``
    and ``end`` are shares of all steps between which ranks are taken away, each ``every`` steps.
    """

    initial_r: CountOrNone = 0
    start: Share = 0.1
    end: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6
    every: Count = 10
    orthogonality: NotNegative = 0.5

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) must be below end ({self.end:g})")


class Training(Section, frozen=True, kw_only=True):
    """The optimisation. ``batch_size`` counts dialogues, ``max_steps`` optimiser steps.

    ``mode``: ``exact`` makes optimiser steps of ``batch_size * gradient_accumulation`` dialogues,
    ``throughput`` of as many as fill a forward; :mod:`training.planning.pace` says what that
    changes, and ``learning_rate_scaling`` how the learning rate grows with them.
    ``tokens_per_forward`` bounds a forward (0: ``batch_size`` times ``prompt.max_length``, in
    throughput mode 4,096).
    ``share_prefix`` computes what all dialogues of a forward begin with, the system prompt, once:
    the gradient is the same, but dropout on it is drawn once (not with NEFTune, whose noise is each
    dialogue's own).
    ``gradient_checkpointing`` computes the activations of all layers (true), of none (false), or of
    as many as the memory asks for (``auto``) again; the result is the same, and
    :mod:`training.planning.recomputation` decides.
    ``scheduler_options`` are those of transformers' scheduler of that name. ``neftune_alpha`` adds
    noise to the embeddings while training (Jain et al. 2023; 0: none).
    ``early_stopping_patience``: how many validations in a row may fail to lower the loss by more
    than ``early_stopping_min_delta`` nats per token (0: all).
    """

    mode: Mode = "exact"
    tokens_per_forward: CountOrNone = 0
    share_prefix: bool = True
    learning_rate_scaling: LearningRateScaling = "sqrt"
    epochs: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 3.0
    max_steps: CountOrNone = 0
    batch_size: Count = 2
    gradient_accumulation: Count = 4
    learning_rate: Positive = 2e-4
    scheduler: Scheduler = "constant"
    scheduler_options: dict[str, float] = msgspec.field(default_factory=dict)
    warmup_steps: CountOrNone = 0
    weight_decay: NotNegative = 0.001
    max_grad_norm: Positive = 0.3
    optimizer: OptimizerName = "paged_adamw_32bit"
    gradient_checkpointing: GradientCheckpointing = "auto"
    neftune_alpha: NotNegative = 0.0
    early_stopping_patience: CountOrNone = 0
    early_stopping_min_delta: NotNegative = 0.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 42

    @property
    def dialogues_per_step(self) -> int:
        """Of a step in exact mode; all numbers of steps in the recipe are of such steps."""
        return self.batch_size * self.gradient_accumulation

    @property
    def shares(self) -> bool:
        """Whether the common beginning of a forward's dialogues is computed once."""
        return self.share_prefix and not self.neftune_alpha

    def forward_limit(self, prompt: Prompt) -> int:
        """The most tokens in one forward, unless one sequence alone has more.

        A step of shorter dialogues takes fewer forwards than ``gradient_accumulation``, never more
        memory.
        """
        if self.tokens_per_forward:
            return self.tokens_per_forward
        filled = self.mode == "throughput"
        return FILLED_FORWARD if filled else self.batch_size * prompt.max_length


class Record(Section, frozen=True, kw_only=True):
    """What is written down and when, in optimiser steps.

    Every ``sample_every`` steps (0: never) the model replies to ``samples`` questions of the
    validation split.
    """

    log_every: Count = 10
    evaluate_every: Count = 500
    save_every: Count = 500
    keep_checkpoints: Count = 3
    evaluation_dialogues: CountOrNone = 1000
    sample_every: CountOrNone = 0
    samples: Count = 20


def _range(parameter: str) -> msgspec.Meta:
    """What the registry lets an adapter have: a training whose adapter it refuses is lost."""
    least, most = SAMPLING_RANGES[parameter]
    return msgspec.Meta(ge=least, le=most)


class Generation(Section, frozen=True, kw_only=True):
    """Sampling defaults that the adapter carries into the server."""

    max_tokens: Annotated[int, _range("max_tokens")] = 100
    temperature: Annotated[float, _range("temperature")] = 0.3
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    repetition_penalty: Annotated[float, _range("repetition_penalty")] = 1.1

    def defaults(self) -> SamplingDefaults:
        """The same values as the manifest holds them."""
        return SamplingDefaults(**msgspec.structs.asdict(self))


class Recipe(Section, frozen=True, kw_only=True):
    """A whole training as one value."""

    prompt: Prompt = Prompt()
    quantization: Quantization = Quantization()
    lora: Lora = Lora()
    adalora: AdaLora = AdaLora()
    training: Training = Training()
    record: Record = Record()
    generation: Generation = Generation()

    def __post_init__(self) -> None:
        if self.lora.kind != "adalora":
            return
        if self.adalora.initial_r and self.initial_r <= self.lora.r:
            raise ValueError(
                f"adalora.initial_r ({self.initial_r}) must be above lora.r ({self.lora.r})"
            )
        if self.quantization.kind == "int8":  # PEFT 0.21 mixes dtypes there
            raise ValueError("lora.kind adalora cannot go with quantization.kind int8; use nf4")

    @property
    def initial_r(self) -> int:
        """The ranks that each projection has before any is taken away."""
        if self.lora.kind != "adalora":
            return self.lora.r
        return self.adalora.initial_r or max(self.lora.r + 1, round(1.5 * self.lora.r))

    def toml(self) -> str:
        """The resolved recipe, readable by :func:`read_recipe`."""
        import tomli_w

        return tomli_w.dumps(msgspec.to_builtins(self))

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over the resolved values."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


_FILES = SettingsFiles(Recipe, "recipe", RECIPES, RecipeError)


def bundled_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return _FILES.bundled()


def read_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A bundled recipe by name or a TOML file, with ``key=value`` overrides applied.

    Raises:
        RecipeError: as :meth:`training.settings.SettingsFiles.read`.
    """
    return _FILES.read(source, overrides)


def decode_recipe(text: str, source: str) -> Recipe:
    """The recipe in ``text`` (TOML); ``source`` names it in errors."""
    return _FILES.decode(text, source)


def make_recipe(values: Mapping[str, Mapping[str, Any]], source: str) -> Recipe:
    """The recipe of decoded ``values`` by section and field; ``source`` names them in errors."""
    return _FILES.convert(values, source)


def recipe_field(key: str, where: str) -> tuple[str, Any]:
    """The field that ``key`` means, as in an override: its name with the section, and its type.

    Raises:
        RecipeError: there is none; ``where`` begins the message.
    """
    return _FILES.field(key, where)


def changed_recipe(recipe: Recipe, values: Mapping[str, Any], source: str) -> Recipe:
    """``recipe`` with ``values`` in the fields that they are named by (``section.field``).

    Raises:
        RecipeError: they are out of range, or do not go together; ``source`` begins the message.
    """
    sections = msgspec.to_builtins(recipe)
    for name, value in values.items():
        section, _, field = name.partition(".")
        sections[section][field] = value
    return make_recipe(sections, source)
