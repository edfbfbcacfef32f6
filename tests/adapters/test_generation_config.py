"""What a base's ``generation_config.json`` says about sampling."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import BaseInvalid
from adapters.generation_config import read_generation_config, sampling_of
from adapters.manifest import SamplingDefaults


def written(directory: Path, text: str | dict[str, Any]) -> Path:
    content = text if isinstance(text, str) else json.dumps(text)
    (directory / "generation_config.json").write_text(content, encoding="utf-8")
    return directory


def test_the_values_of_the_file_are_taken(tmp_path: Path) -> None:
    """Those of Qwen3; what is not about choosing a token is left alone, and so are lengths."""
    told = {
        "bos_token_id": 151643,
        "do_sample": True,
        "eos_token_id": [151645, 151643],
        "max_new_tokens": 2048,
        "repetition_penalty": 1.05,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "transformers_version": "4.51.0",
    }

    assert sampling_of(written(tmp_path, told)) == SamplingDefaults(
        temperature=0.6, top_p=0.95, top_k=20, repetition_penalty=1.05
    )


@pytest.mark.parametrize("told", [{}, {"eos_token_id": 2, "temperature": None}])
def test_what_is_not_said_is_neutral(tmp_path: Path, told: dict[str, Any]) -> None:
    """A null says nothing either; nor does a base without the file."""
    assert sampling_of(tmp_path) == SamplingDefaults()
    assert sampling_of(written(tmp_path, told)) == SamplingDefaults()


def test_a_base_that_is_not_to_be_drawn_from_takes_the_likeliest(tmp_path: Path) -> None:
    """``do_sample: false`` is greedy, whatever else stands there; a penalty still counts."""
    told = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.2}

    assert sampling_of(written(tmp_path, told)) == SamplingDefaults(
        temperature=0.0, repetition_penalty=1.2
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 5.0),
        ("temperature", "warm"),
        ("top_p", -0.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("repetition_penalty", 0),
        ("repetition_penalty", True),
    ],
)
def test_a_value_that_cannot_be_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    """By its name; the others hold, for the base can be served all the same."""
    told = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}

    with caplog.at_level(logging.WARNING):
        found = sampling_of(written(tmp_path, told | {name: value}))

    expected = told | {name: None}
    assert found == SamplingDefaults(**expected)
    (record,) = caplog.records
    assert name in record.getMessage()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"top_k": 1, "top_k": 2}', "\ud800"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    """What ends a reply may be in it, so it is not skipped."""
    path = tmp_path / "generation_config.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(BaseInvalid, match=r"generation_config\.json .* optional"):
        read_generation_config(tmp_path)


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The hub's cache is made of links."""
    (tmp_path / "blob").write_text('{"temperature": 0.5}')
    (tmp_path / "generation_config.json").symlink_to(tmp_path / "blob")

    assert sampling_of(tmp_path).temperature == 0.5
