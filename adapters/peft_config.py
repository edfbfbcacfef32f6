"""``adapter_config.json`` as this project accepts it: plain LoRA, every field checked by name.

PEFT never sees a config from elsewhere: some of its settings change the shared base in place, and
some are regular expressions that can run for ever.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from adapters.manifest import PROJECTIONS
from adapters.strict_json import read_object

RANK_LIMIT = 1024
ALPHA_LIMIT = 1e4

_Rank = Annotated[int, Meta(ge=1, le=RANK_LIMIT, description=f"a whole number, 1 to {RANK_LIMIT}")]
_Alpha = Annotated[
    float, Meta(gt=0, le=ALPHA_LIMIT, description=f"a number above 0, up to {ALPHA_LIMIT:g}")
]
_Dropout = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
_Flag = Annotated[bool, Meta(description="true or false")]
_Text = Annotated[
    Annotated[str, Meta(max_length=4096)] | None, Meta(description="a short string or null")
]
_Start = Annotated[
    bool | Literal["gaussian", "orthogonal"] | None,
    Meta(description="true, false, 'gaussian' or 'orthogonal', which leave the base as it is"),
]


class LoraSettings(msgspec.Struct, frozen=True):
    """The accepted fields of PEFT's ``LoraConfig``, under its names.

    Only the first four and ``use_rslora`` change what an adapter computes. ``target_modules`` are
    names of projections, however the file says them (:func:`targets_of`).
    """

    r: _Rank
    lora_alpha: _Alpha
    target_modules: tuple[str, ...]
    peft_type: Annotated[Literal["LORA"], Meta(description="'LORA'")]
    task_type: Annotated[Literal["CAUSAL_LM"] | None, Meta(description="'CAUSAL_LM' or null")] = (
        None
    )
    bias: Annotated[Literal["none"], Meta(description="'none'")] = "none"
    use_rslora: _Flag = False
    init_lora_weights: _Start = True
    lora_dropout: _Dropout = 0.0
    inference_mode: _Flag = False
    base_model_name_or_path: _Text = None
    peft_version: _Text = None
    revision: _Text = None
    megatron_core: Annotated[
        Literal["megatron.core"] | None, Meta(description="'megatron.core' or null")
    ] = None
    qalora_group_size: Annotated[Literal[16], Meta(description="16, the value without QALoRA")] = 16

    @property
    def alpha(self) -> float:
        """Alpha such that alpha / rank is the scaling, also for rank-stabilised LoRA."""
        return self.lora_alpha * math.sqrt(self.r) if self.use_rslora else self.lora_alpha


# A projection by its name alone, or with where it lies.
_PATH = re.compile(
    r"(?:(?:(?:base_model\.model\.)?(?:model\.)?layers\.\d{1,4}\.)?(?:self_attn|mlp)\.)?"
    rf"(?P<name>{'|'.join(PROJECTIONS)})"
)
# Why a setting is refused where it says anything but "off". Others are refused without a why.
_REASONS = {
    "alora_invocation_tokens": "activated LoRA applies to part of a prompt only",
    "alpha_pattern": "all projections must share one lora_alpha",
    "ensure_weight_tying": "it concerns modules other than the seven projections",
    "exclude_modules": "every layer must have every target",
    "fan_in_fan_out": "the weights would be transposed",
    "layer_replication": "it would change the layers of the shared base",
    "layers_pattern": "every layer must have every target",
    "layers_to_transform": "every layer must have every target",
    "lora_bias": "a bias beside the LoRA weights is not applied",
    "loftq_config": "it changes the weights of the shared base",
    "megatron_config": "Megatron layers are not supported",
    "modules_to_save": "it replaces whole modules of the shared base",
    "rank_pattern": "all projections must share one rank r",
    "target_parameters": "only the seven projections can be adapted",
    "trainable_token_indices": "it changes the embedding of the shared base",
    "use_dora": "DoRA rescales the weights of the shared base",
}
# Initialisations of PEFT that take something out of the base's weights or belong to a variant.
_CHANGES_BASE = re.compile(r"pissa.*|olora|corda|eva|loftq|lora_ga|mica")
_AUTO_MAPPING = {
    "base_model_class": re.compile(r"\w{1,100}"),
    "parent_library": re.compile(r"transformers\.models(\.\w{1,100}){1,5}"),
}


def read_settings(data: bytes) -> tuple[LoraSettings | None, list[str]]:
    """The settings in the bytes of an ``adapter_config.json``, or every problem, field by field."""
    settings, problems = survey_settings(data)
    return (None if problems else settings), problems


def survey_settings(data: bytes) -> tuple[LoraSettings | None, list[str]]:
    """Like :func:`read_settings`, but beside problems there may be settings to look for more with.

    They are those that could be read, and ``None`` where even the required ones could not.
    """
    try:
        config = read_object(data)
    except ValueError as error:
        return None, [str(error)]
    fields = {field.name: field for field in msgspec.structs.fields(LoraSettings)}
    bad = {
        name: problem
        for name, field in fields.items()
        if (problem := _field_problem(name, config, required=field.required))
    }
    others = [
        problem
        for name, value in config.items()
        if name not in fields and (problem := _other_problem(name, value))
    ]
    problems = [*bad.values(), *others]
    if any(fields[name].required for name in bad):
        return None, problems
    usable = {name: config[name] for name in fields if name in config and name not in bad}
    usable["target_modules"] = targets_of(config["target_modules"])
    return msgspec.convert(usable, LoraSettings), problems


def targets_of(value: object) -> tuple[str, ...]:
    """The projections that ``target_modules`` names: none where it is not about these alone.

    PEFT writes names, paths of modules (what ``all-linear`` becomes) or a pattern (as Unsloth
    does). Which layers paths and patterns are about is not read out of them: the tensors say it,
    and each target has to be there in every layer, with no other beside (``adapters.validate``).
    So a pattern is never run.
    """
    if isinstance(value, str):
        return tuple(name for name in PROJECTIONS if re.search(rf"(?<!\w){name}(?!\w)", value))
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        return ()
    found = [_PATH.fullmatch(item) for item in value]
    if not all(found):
        return ()
    return tuple(dict.fromkeys(match["name"] for match in found if match))


def _field_problem(name: str, config: dict[str, Any], *, required: bool) -> str | None:
    if name not in config:
        return f"{name} is missing" if required else None
    value = config[name]
    if name == "target_modules":
        return _target_problem(value)
    expected = get_type_hints(LoraSettings, include_extras=True)[name]
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError:
        problem = f"{name} is {_shown(value)}, but must be {expected.__metadata__[0].description}"
        if name == "init_lora_weights" and isinstance(value, str) and _CHANGES_BASE.match(value):
            problem += (
                "; it may fit a changed base only: save the adapter as plain LoRA "
                "(PEFT's path_initial_model_for_weight_conversion)"
            )
        return problem
    return None


def _target_problem(value: object) -> str | None:
    wanted = f"a list of names out of {', '.join(PROJECTIONS)}"
    if isinstance(value, str):
        if targets_of(value):
            return None
        return f"target_modules is {_shown(value)}, a pattern, but must name them or be {wanted}"
    if not isinstance(value, list) or not value:
        return f"target_modules is {_shown(value)}, but must be {wanted}"
    unknown = [item for item in value if not targets_of([item])]
    if unknown:
        return f"target_modules has {_shown(unknown)}, but must be {wanted}"
    if len({*map(str, value)}) < len(value):
        return f"target_modules names a projection twice: {_shown(value)}"
    return None


def _other_problem(name: str, value: object) -> str | None:
    """Fields of PEFT that this server does not have are fine as long as they are off."""
    if name == "auto_mapping" and _names_a_transformers_class(value):
        return None  # PEFT notes the base's class where task_type is null; nothing reads it here
    if value is None or value is False or value in ({}, []):
        return None
    why = _REASONS.get(name, "this server does not know what it would change")
    return f"{name[:100]} is {_shown(value)}, but must be off: {why}; train without it"


def _names_a_transformers_class(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == _AUTO_MAPPING.keys()
        and all(
            isinstance(value[key], str) and pattern.fullmatch(value[key])
            for key, pattern in _AUTO_MAPPING.items()
        )
    )


def _shown(value: object) -> str:
    """The value as JSON, printable and at most 80 characters long."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - a line of a terminal
