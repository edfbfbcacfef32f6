"""Which adapter_config.json is accepted, and that a refusal names its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.manifest import PROJECTIONS
from adapters.peft_config import LoraSettings, read_settings, survey_settings

GOOD: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["v_proj", "q_proj"],
}

_MODULES = ("self_attn.q_proj", "mlp.down_proj")


def read(**changes: Any) -> tuple[LoraSettings | None, list[str]]:
    return read_settings(json.dumps(GOOD | changes).encode())


def test_the_least_that_is_needed():
    """Four fields are enough; the rest has PEFT's defaults."""
    settings, problems = read()
    assert problems == []
    assert settings == LoraSettings(
        r=8, lora_alpha=16.0, target_modules=("v_proj", "q_proj"), peft_type="LORA"
    )
    assert settings.alpha == 16.0


def test_everything_that_peft_writes_by_default():
    """PEFT's own defaults are accepted field by field, whatever fields this version has."""
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    assert len(config) > 40
    settings, problems = read_settings(json.dumps(config | {"target_modules": ["q_proj"]}).encode())
    assert problems == []
    assert settings is not None
    assert settings.r == 4


@pytest.mark.parametrize(
    "value",
    [
        [f"model.layers.{layer}.{module}" for layer in (0, 11) for module in _MODULES],
        [f"base_model.model.model.layers.0.{module}" for module in _MODULES],
        ["self_attn.q_proj", "down_proj", "mlp.down_proj"],
        r"model\.layers\.\d+\.(self_attn\.q_proj|mlp\.down_proj)",
        r"(?:.*?(?:attn|mlp).*?(?:q_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:q_proj))",
    ],
    ids=lambda value: str(value)[:40],
)
def test_targets_may_be_paths_or_a_pattern(value: Any):
    """As PEFT writes all-linear, and as Unsloth does: which projections is read out of them."""
    settings, problems = read(target_modules=value)
    assert problems == []
    assert settings is not None
    assert settings.target_modules == ("q_proj", "down_proj")


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank():
    """The scaling is alpha / rank in both kinds: 8 / sqrt(16) = 2 means alpha 32."""
    settings, problems = read(r=16, lora_alpha=8, use_rslora=True)
    assert problems == []
    assert settings is not None
    assert settings.alpha / settings.r == pytest.approx(8 / 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"init_lora_weights": None},
        {"task_type": None},
        {
            "task_type": None,
            "auto_mapping": {
                "base_model_class": "Qwen3ForCausalLM",
                "parent_library": "transformers.models.qwen3.modeling_qwen3",
            },
        },
        {"r": 1, "lora_alpha": 0.5},
        {"r": 1024, "lora_alpha": 10_000},
        {"lora_dropout": 0.1, "inference_mode": True, "revision": "main"},
        {"modules_to_save": [], "rank_pattern": {}, "use_dora": False, "eva_config": None},
        {"from_the_future": None, "also": False, "and": [], "then": {}},
    ],
)
def test_settings_that_change_nothing_are_accepted(changes: dict[str, Any]):
    """What is off, or is over once the weights are trained, is no reason to refuse."""
    assert read(**changes)[1] == []


_NUMBERS = "a number above 0, up to 10000"
_WHOLE = "a whole number, 1 to 1024"
_STARTS = "true, false, 'gaussian' or 'orthogonal', which leave the base as it is"
_ADVICE = (
    "it may fit a changed base only: save the adapter as plain LoRA "
    "(PEFT's path_initial_model_for_weight_conversion)"
)
_NAMES = f"a list of names out of {', '.join(PROJECTIONS)}"


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("peft_type", "LOHA", """peft_type is "LOHA", but must be 'LORA'"""),
        ("peft_type", None, "peft_type is null, but must be 'LORA'"),
        ("task_type", "SEQ_CLS", """task_type is "SEQ_CLS", but must be 'CAUSAL_LM' or null"""),
        ("r", 0, f"r is 0, but must be {_WHOLE}"),
        ("r", -1, f"r is -1, but must be {_WHOLE}"),
        ("r", 1025, f"r is 1025, but must be {_WHOLE}"),
        ("r", 2_000_000, f"r is 2000000, but must be {_WHOLE}"),
        ("r", 10**30, f"r is {10**30}, but must be {_WHOLE}"),
        ("r", 8.5, f"r is 8.5, but must be {_WHOLE}"),
        ("r", True, f"r is true, but must be {_WHOLE}"),
        ("r", "8", f'r is "8", but must be {_WHOLE}'),
        ("lora_alpha", 0, f"lora_alpha is 0, but must be {_NUMBERS}"),
        ("lora_alpha", -1, f"lora_alpha is -1, but must be {_NUMBERS}"),
        ("lora_alpha", 1e30, f"lora_alpha is 1e+30, but must be {_NUMBERS}"),
        ("lora_alpha", float("nan"), f"lora_alpha is NaN, but must be {_NUMBERS}"),
        ("lora_alpha", float("inf"), f"lora_alpha is Infinity, but must be {_NUMBERS}"),
        ("lora_dropout", 1.5, "lora_dropout is 1.5, but must be a number from 0 to 1"),
        ("bias", "all", """bias is "all", but must be 'none'"""),
        ("use_rslora", 1, "use_rslora is 1, but must be true or false"),
        ("megatron_core", "os", """megatron_core is "os", but must be 'megatron.core' or null"""),
        (
            "qalora_group_size",
            4,
            "qalora_group_size is 4, but must be 16, the value without QALoRA",
        ),
        ("base_model_name_or_path", ["a"], "base_model_name_or_path is"),
        ("revision", "x" * 5000, "revision is"),
        ("target_modules", None, f"target_modules is null, but must be {_NAMES}"),
        ("target_modules", [], f"target_modules is [], but must be {_NAMES}"),
        (
            "target_modules",
            "all-linear",
            f'target_modules is "all-linear", a pattern, but must name them or be {_NAMES}',
        ),
        (
            "target_modules",
            r"(\w+\.?)+!",
            rf'target_modules is "(\\w+\\.?)+!", a pattern, but must name them or be {_NAMES}',
        ),
        (
            "target_modules",
            ["q_proj", "lm_head", "model.q_proj"],
            f'target_modules has ["lm_head", "model.q_proj"], but must be {_NAMES}',
        ),
        ("target_modules", [["q_proj"]], f'target_modules has [["q_proj"]], but must be {_NAMES}'),
        (
            "target_modules",
            ["q_proj", "q_proj"],
            'target_modules names a projection twice: ["q_proj", "q_proj"]',
        ),
        *[
            (
                "init_lora_weights",
                how,
                f"""init_lora_weights is "{how}", but must be {_STARTS}; {_ADVICE}""",
            )
            for how in ("pissa", "pissa_niter_16", "olora", "corda", "eva", "loftq", "mica")
        ],
        (
            "init_lora_weights",
            "magic",
            """init_lora_weights is "magic", but must be true, false,""",
        ),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(field: str, value: Any, problem: str):
    """One problem, with the field, its value and what it must be."""
    problems = read(**{field: value})[1]
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {r"(\w+\.?)+!": 4}),
        ("alpha_pattern", {"q_proj": 4}),
        ("layers_to_transform", [0]),
        ("layers_to_transform", 0),
        ("layers_pattern", "layers"),
        ("layer_replication", [[0, 2], [0, 2]]),
        ("megatron_config", {"a": 1}),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("exclude_modules", r".*"),
        ("target_parameters", ["x"]),
        ("loftq_config", {"loftq_bits": 4}),
        ("alora_invocation_tokens", [1]),
        ("ensure_weight_tying", True),
        ("auto_mapping", {"base_model_class": "X", "parent_library": "os"}),
        ("auto_mapping", {"parent_library": "transformers.models.qwen3"}),
        ("eva_config", {"rho": 2.0}),
        ("use_qalora", True),
        ("from_the_future", 0),
        ("from_the_future", ""),
    ],
)
def test_a_setting_that_is_on_is_refused_by_name(field: str, value: Any):
    """Known or unknown to us: what is not off might change what the adapter computes."""
    problems = read(**{field: value})[1]
    assert len(problems) == 1
    assert problems[0].startswith(f"{field} is {json.dumps(value)}, but must be off: ")
    assert problems[0].endswith("; train without it")


@pytest.mark.parametrize("field", list(GOOD))
def test_a_field_that_is_missing_is_named(field: str):
    """PEFT would fill in a default; which one depends on its version."""
    config = {key: value for key, value in GOOD.items() if key != field}
    assert read_settings(json.dumps(config).encode()) == (None, [f"{field} is missing"])


def test_every_problem_is_found_at_once():
    """Also those of fields that are read after the first bad one."""
    settings, problems = read(r=0, bias="all", use_dora=True, what=1, target_modules="q")
    assert settings is None
    assert [problem.split()[0] for problem in problems] == [
        *("r", "target_modules", "bias", "use_dora", "what")
    ]


def test_what_can_be_read_is_surveyed_beside_the_problems():
    """So that the tensors can be looked at, too; whoever only reads gets no bad settings."""
    odd = json.dumps(GOOD | {"use_dora": True, "bias": "all"}).encode()
    settings, problems = survey_settings(odd)
    assert len(problems) == 2
    assert settings == read()[0] is not None
    assert read_settings(odd) == (None, problems)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "should hold a JSON object"),
        (b'{"r": 1, "r": 2}', "has the key 'r' twice"),
        (b'{"a": {"r": 1, "r": 2}}', "has the key 'r' twice"),
        (b"\xff{}", "is not UTF-8 (byte 0)"),
        (b'{"a":' * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, problem: str):
    """Nothing but one JSON object without twins, however it is broken."""
    assert read_settings(data) == (None, [problem])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
_FIELDS = st.sampled_from([*LoraSettings.__struct_fields__, "use_dora", "rank_pattern"])


@given(st.dictionaries(_FIELDS | st.text(max_size=8), _JSON, max_size=6))
def test_no_config_raises(changes: dict[str, Any]):
    """Any JSON gives settings or problems, and accepted settings keep their bounds."""
    settings, problems = read(**changes)
    if not problems:
        assert settings is not None
        assert 1 <= settings.r <= 1024
        assert 0 < settings.lora_alpha <= 1e4
        assert set(settings.target_modules) <= set(PROJECTIONS)
