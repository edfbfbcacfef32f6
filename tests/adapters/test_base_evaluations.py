"""What was measured of a base: by its content, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from adapters.base_evaluations import BaseEvaluations
from adapters.errors import AdapterError
from adapters.manifest import BaseRef
from tests.adapters.test_evaluations import measured

REF = BaseRef("pocket", "1" * 64, "2" * 64, "3" * 64)


def test_a_base_is_known_by_its_content(tmp_path: Path) -> None:
    """Under any name; another under the same name, in any part of it, has no figures yet."""
    kept = BaseEvaluations(tmp_path / "evaluations")
    assert kept.of(REF) == ()

    kept.record(REF, measured())

    assert kept.of(msgspec.structs.replace(REF, name="elsewhere")) == (measured(),)
    for part in ("weights_sha256", "tokenizer_sha256", "template_sha256"):
        assert kept.of(msgspec.structs.replace(REF, **{part: "4" * 64})) == ()


def test_a_newer_one_takes_the_olders_place(tmp_path: Path) -> None:
    """On the same split of the same data; others stay."""
    kept = BaseEvaluations(tmp_path)
    other = measured(split="validation")
    for one in (measured(3.0), other, measured(2.5)):
        kept.record(REF, one)

    assert kept.of(REF) == (other, measured(2.5))


def test_what_cannot_be_read_is_said_and_not_written_over(tmp_path: Path) -> None:
    """With the file, and what to do."""
    kept = BaseEvaluations(tmp_path)
    kept.record(REF, measured())
    (path,) = tmp_path.glob("*.json")
    path.write_text("no JSON")

    with pytest.raises(AdapterError, match=rf"{path.name}.*Delete that file"):
        kept.of(REF)
    with pytest.raises(AdapterError, match="Delete that file"):
        kept.record(REF, measured())
    assert path.read_text() == "no JSON"
