"""Tensors, values, bases and manifests: what may be served, and the problem of everything else."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.base import Base
from adapters.manifest import (
    CONFIG_FILE,
    PROJECTIONS,
    WEIGHTS_FILE,
    BaseRef,
    FileRef,
    Manifest,
    SamplingDefaults,
)
from adapters.peft_config import LoraSettings
from adapters.validate import (
    check_config,
    check_manifest,
    check_origin,
    check_weights,
    expected_tensors,
)
from tests.adapters.conftest import edit_config, edit_tensors
from tests.tiny import random_adapter

Tensors = dict[str, torch.Tensor]
LAYER = "base_model.model.model.layers"
A = f"{LAYER}.0.self_attn.q_proj.lora_A.weight"
B = f"{LAYER}.0.self_attn.q_proj.lora_B.weight"


def problems_of(source: Path, base: Base) -> list[str]:
    found, problems = check_config(source / CONFIG_FILE)
    return problems + check_weights(source / WEIGHTS_FILE, base, found)


def weights_problem(source: Path, base: Base) -> str:
    """The one problem of the weights, without the file's name."""
    [problem] = problems_of(source, base)
    assert problem.startswith(f"{WEIGHTS_FILE}: ")
    return problem.removeprefix(f"{WEIGHTS_FILE}: ")


class TestTensors:
    @pytest.mark.parametrize("targets", [PROJECTIONS, ("q_proj",), ("down_proj", "o_proj")])
    def test_any_choice_of_projections_is_accepted(
        self, tmp_path: Path, base: Base, targets: tuple[str, ...]
    ):
        """All seven, one of them, or some in any order."""
        assert problems_of(random_adapter(tmp_path / "a", base.path, targets=targets), base) == []

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_the_three_float_types_are_accepted(self, source: Path, base: Base, dtype: torch.dtype):
        """What PEFT saves in training, whatever its precision."""

        def convert(tensors: Tensors) -> None:
            tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})

        edit_tensors(source, convert)
        assert problems_of(source, base) == []

    def test_the_expected_tensors_are_those_that_peft_saves(self, source: Path, base: Base):
        """Names and shapes, for every layer and target."""
        found, _ = check_config(source / CONFIG_FILE)
        assert found is not None
        saved = safetensors.torch.load_file(source / WEIGHTS_FILE)
        shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
        assert expected_tensors(base, found) == shapes

    @pytest.mark.parametrize(
        ("edit", "problem"),
        [
            (lambda tensors: tensors.pop(A), f"1 tensor missing: {A}"),
            (
                lambda tensors: tensors.update({"lm_head.weight": torch.ones(2)}),
                "1 tensor unexpected: lm_head.weight",
            ),
            (
                lambda tensors: tensors.update({"\x1b[2J": torch.ones(2)}),
                r"1 tensor unexpected: \x1b[2J",
            ),
            (
                lambda tensors: tensors.update({A: tensors[A].T.contiguous()}),
                f"1 tensor misshapen: {A} is [64, 4], expected [4, 64]",
            ),
            (
                lambda tensors: tensors.update({A: tensors[A][:3].contiguous()}),
                f"1 tensor misshapen: {A} is [3, 64], expected [4, 64]",
            ),
            (
                lambda tensors: tensors.update({A: tensors[A].flatten()}),
                f"1 tensor misshapen: {A} is [256], expected [4, 64]",
            ),
            (
                lambda tensors: tensors.update({A: tensors[A].double()}),
                f"only F32, F16, BF16 can be served: {A} is F64",
            ),
            (
                lambda tensors: tensors.update({B: tensors[B].to(torch.int8)}),
                f"only F32, F16, BF16 can be served: {B} is I8",
            ),
        ],
    )
    def test_a_tensor_that_does_not_belong_is_named(
        self, source: Path, base: Base, edit: Callable[[Tensors], object], problem: str
    ):
        """Missing, unexpected, of another shape or type."""
        edit_tensors(source, edit)
        assert weights_problem(source, base) == problem

    def test_a_renamed_tensor_is_both_missing_and_unexpected(self, source: Path, base: Base):
        """PEFT would load it without a word and answer as the base."""
        edit_tensors(source, lambda tensors: tensors.update({"x": tensors.pop(A)}))
        assert problems_of(source, base) == [
            f"{WEIGHTS_FILE}: 1 tensor missing: {A}",
            f"{WEIGHTS_FILE}: 1 tensor unexpected: x",
        ]

    def test_a_long_list_is_shortened_with_a_count(self, source: Path, base: Base):
        """A base with more layers misses many; three are named."""
        deeper = msgspec.structs.replace(
            base, architecture=msgspec.structs.replace(base.architecture, layers=40)
        )
        problem = weights_problem(source, deeper)
        assert problem.startswith(f"532 tensors missing: {LAYER}.2.self_attn.q_proj.lora_A.weight,")
        assert problem.endswith(" and 529 more")
        assert len(problem) < 300

    def test_another_rank_than_the_config_says_is_found(self, source: Path, base: Base):
        """Every tensor is of the wrong shape then."""
        edit_config(source, r=8)
        assert weights_problem(source, base).startswith(
            f"28 tensors misshapen: {A} is [4, 64], expected [8, 64], "
        )

    def test_without_a_config_the_rest_is_still_checked(self, source: Path, base: Base):
        """Types and values need no expectation."""
        edit_tensors(source, lambda tensors: tensors[A].fill_(math.nan))
        assert check_weights(source / WEIGHTS_FILE, base, None) == [
            f"{WEIGHTS_FILE}: 1 tensor with NaN or infinite values: {A}"
        ]


class TestValues:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("place", [0, -1])
    def test_one_value_that_is_not_finite_is_found(
        self, source: Path, base: Base, dtype: torch.dtype, value: float, place: int
    ):
        """First or last, in every type, and the tensor is named."""

        def spoil(tensors: Tensors) -> None:
            tensors[B] = tensors[B].to(dtype)
            tensors[B].view(-1)[place] = value

        edit_tensors(source, spoil)
        assert weights_problem(source, base) == f"1 tensor with NaN or infinite values: {B}"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_the_largest_and_smallest_numbers_are_finite(
        self, source: Path, base: Base, dtype: torch.dtype
    ):
        """No bit pattern of a finite number is taken for infinity."""
        limits = torch.finfo(dtype)

        def fill(tensors: Tensors) -> None:
            values = [limits.max, limits.min, limits.tiny, limits.smallest_normal / 2, -0.0, 0.0]
            tensors[B] = tensors[B].to(dtype)
            tensors[B].view(-1)[: len(values)] = torch.tensor(values, dtype=dtype)

        edit_tensors(source, fill)
        assert problems_of(source, base) == []

    def test_values_beyond_the_first_block_are_read(self, tmp_path: Path, base: Base):
        """A tensor larger than one block is checked to its end."""
        wide = msgspec.structs.replace(
            base,
            architecture=msgspec.structs.replace(base.architecture, hidden_size=1 << 19, layers=1),
        )
        lora = LoraSettings(r=1, lora_alpha=1, target_modules=("q_proj",), peft_type="LORA")
        tensors = {name: torch.zeros(shape) for name, shape in expected_tensors(wide, lora).items()}
        path = tmp_path / WEIGHTS_FILE
        safetensors.torch.save_file(tensors, path)
        assert check_weights(path, wide, lora) == []
        tensors[A][0, -1] = math.inf
        safetensors.torch.save_file(tensors, path)
        assert check_weights(path, wide, lora) == [
            f"{WEIGHTS_FILE}: 1 tensor with NaN or infinite values: {A}"
        ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Base) -> Path:
    path = tmp_path_factory.mktemp("whole") / "adapter"
    return random_adapter(path, base.path, targets=("k_proj",), rank=1)


class TestDamage:
    """A file that was cut or has flipped bits is refused, or is a valid adapter: never an error."""

    def check(self, path: Path, base: Base, whole: Path, data: bytes) -> list[str]:
        path.write_bytes(data)
        found, _ = check_config(whole / CONFIG_FILE)
        problems = check_weights(path, base, found)
        if not problems:  # then the library reads the same tensors, all finite
            assert found is not None
            tensors = safetensors.torch.load(data)
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            assert shapes == expected_tensors(base, found)
            assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
        return problems

    def test_no_prefix_of_a_file_is_accepted(self, tmp_path: Path, base: Base, whole: Path):
        """Cut anywhere in the header, or at some places in the data."""
        data = (whole / WEIGHTS_FILE).read_bytes()
        end_of_header = 8 + int.from_bytes(data[:8], "little")
        for length in [*range(end_of_header + 16), *range(end_of_header, len(data), 61)]:
            assert self.check(tmp_path / "x", base, whole, data[:length])
        assert self.check(tmp_path / "x", base, whole, data) == []
        assert self.check(tmp_path / "x", base, whole, data + b"\0")

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_flipped_bits_are_refused_or_harmless(
        self, tmp_path: Path, base: Base, whole: Path, data: st.DataObject
    ):
        """What is accepted, the safetensors library reads as the expected finite tensors."""
        raw = bytearray((whole / WEIGHTS_FILE).read_bytes())
        header = 8 + struct.unpack("<Q", raw[:8])[0]
        where = st.integers(0, header - 1) | st.integers(0, len(raw) - 1)
        for place in data.draw(st.lists(where, min_size=1, max_size=4)):
            raw[place] ^= 1 << data.draw(st.integers(0, 7))
        self.check(tmp_path / "x", base, whole, bytes(raw))


class TestOrigin:
    """Whether an adapter trained elsewhere belongs to this base, by what it calls its base."""

    @pytest.mark.parametrize(
        ("named", "ours"),
        [
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
            ("/data/models/qwen3-0.6b", "Qwen/Qwen3-0.6B"),
            ("mirror/Qwen3-0.6B/", "Qwen/Qwen3-0.6B"),
            ("Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
            ("{path}", "Qwen/Qwen3-0.6B"),
            ("/elsewhere/bases/TINY", "Qwen/Qwen3-0.6B"),  # the directory is called tiny
        ],
    )
    def test_the_same_base_under_a_similar_name_is_accepted(
        self, base: Base, named: str, ours: str
    ):
        """The name, the path, or the last part of either in any case."""
        named = named.format(path=base.path)
        lora = LoraSettings(
            r=1,
            lora_alpha=1,
            target_modules=("q_proj",),
            peft_type="LORA",
            base_model_name_or_path=named,
        )
        assert check_origin(lora, msgspec.structs.replace(base, name=ours)) == []

    @pytest.mark.parametrize(
        ("named", "calls"),
        [
            (None, "names no base"),
            ("", "is ''"),
            ("Qwen/Qwen2.5-0.5B", "is 'Qwen/Qwen2.5-0.5B'"),
            ("Qwen/Qwen3-0.6B-Base", "is 'Qwen/Qwen3-0.6B-Base'"),
            ("\x1b[31m", r"is '\x1b[31m'"),
        ],
    )
    def test_another_name_is_refused_with_both(self, base: Base, named: str | None, calls: str):
        """The problem says how to overrule it."""
        lora = LoraSettings(
            r=1,
            lora_alpha=1,
            target_modules=("q_proj",),
            peft_type="LORA",
            base_model_name_or_path=named,
        )
        [problem] = check_origin(lora, msgspec.structs.replace(base, name="Qwen/Qwen3-0.6B"))
        assert problem == (
            f"adapter_config.json: base_model_name_or_path {calls}, not 'Qwen/Qwen3-0.6B'; "
            "if both are the same base, say so (--assume-base; in a request, assume_base: true)"
        )


class TestManifest:
    """What training wrote must agree with the base, the config and the files."""

    LORA = LoraSettings(r=4, lora_alpha=8.0, target_modules=("q_proj", "v_proj"), peft_type="LORA")
    FILES = (FileRef(CONFIG_FILE, 1, "a" * 64), FileRef(WEIGHTS_FILE, 2, "b" * 64))

    def problems(
        self,
        base: Base,
        lora: LoraSettings | None = None,
        trained_on: BaseRef | None = None,
        **changes: object,
    ) -> list[str]:
        manifest = Manifest(
            base=trained_on or base.ref, rank=4, alpha=8.0, target_modules=("v_proj", "q_proj")
        )
        changed = msgspec.structs.replace(manifest, **changes)
        return check_manifest(changed, lora or self.LORA, base, self.FILES)

    def test_one_that_agrees_is_accepted(self, base: Base):
        """With or without files, in any order of targets."""
        assert self.problems(base) == []
        assert self.problems(base, files=self.FILES) == []
        assert self.problems(base, sampling=SamplingDefaults(100, 0.3, 0.8, 0, 1.1)) == []

    def test_rank_stabilised_alpha_counts_as_it_scales(self, base: Base):
        """The manifest's alpha / rank is the scaling: 4 · sqrt(4) = 8."""
        lora = msgspec.structs.replace(self.LORA, lora_alpha=4.0, use_rslora=True)
        assert self.problems(base, lora) == []

    @pytest.mark.parametrize(
        ("field", "what"),
        [
            ("weights_sha256", "weights"),
            ("tokenizer_sha256", "tokenizer"),
            ("template_sha256", "chat template"),
        ],
    )
    def test_another_base_is_refused_with_what_differs(self, base: Base, field: str, what: str):
        """By content, under whatever name."""
        ref = msgspec.structs.replace(base.ref, name="other", **{field: "f" * 64})
        [problem] = self.problems(base, trained_on=ref)
        assert problem == (
            f"adapter.json: base.{field}: trained on 'other' with another {what} (ffffffffffff) "
            f"than 'tiny' has here ({getattr(base.ref, field)[:12]})"
        )

    def test_the_same_base_under_another_name_is_accepted(self, base: Base):
        """Content decides, not the name."""
        assert self.problems(base, trained_on=msgspec.structs.replace(base.ref, name="other")) == []

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"rank": 8}, "rank is 8, but adapter_config.json has r 4"),
            ({"alpha": 16.0}, "alpha is 16, but adapter_config.json makes 8"),
            (
                {"target_modules": ("q_proj",)},
                "target_modules are not those of adapter_config.json",
            ),
            (
                {"files": (FileRef(WEIGHTS_FILE, 2, "c" * 64),)},
                "files: adapter_model.safetensors here is not the file described there",
            ),
            (
                {"files": (FileRef("../x", 2, "c" * 64),)},
                "files: ../x here is not the file described there",
            ),
            (
                {"sampling": SamplingDefaults(max_tokens=0)},
                "sampling.max_tokens is 0, but must be from 1 to 1000000",
            ),
            (
                {"sampling": SamplingDefaults(temperature=2.5)},
                "sampling.temperature is 2.5, but must be from 0.0 to 2.0",
            ),
            (
                {"sampling": SamplingDefaults(top_p=-0.1)},
                "sampling.top_p is -0.1, but must be from 0.0 to 1.0",
            ),
            (
                {"sampling": SamplingDefaults(top_k=-1)},
                "sampling.top_k is -1, but must be from 0 to 1000000",
            ),
            (
                {"sampling": SamplingDefaults(repetition_penalty=0.0)},
                "sampling.repetition_penalty is 0.0, but must be from 0.01 to 10.0",
            ),
        ],
    )
    def test_what_disagrees_is_named(self, base: Base, changes: dict[str, object], problem: str):
        """One problem each, with the field."""
        assert self.problems(base, **changes) == [f"adapter.json: {problem}"]
