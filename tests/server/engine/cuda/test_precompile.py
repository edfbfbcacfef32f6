"""Kernels are compiled before they are launched, several at a time, for a GPU that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton, which compiles")

from tests.server.engine.cuda import absent_gpu
from tests.tiny import tiny_base


def test_kernels_are_compiled_side_by_side_and_not_launched(tmp_path: Path) -> None:
    """Each form once; launches find them."""
    absent_gpu.run(absent_gpu.side_by_side, tmp_path)


def test_kernels_lie_on_disk_where_every_start_looks_for_them(tmp_path: Path) -> None:
    """Triton's keys depend on the order in which they are computed: it is that of the launches."""
    absent_gpu.run(absent_gpu.under_the_same_keys, tmp_path)


def test_nobody_elses_launches_are_left_out(tmp_path: Path) -> None:
    """Not those of other threads, nor any when it is broken off: Triton is as it was."""
    absent_gpu.run(absent_gpu.beside_others, tmp_path)


def test_what_cannot_be_compiled_fails_where_it_is_launched(tmp_path: Path) -> None:
    """Where the step is known that needs it. The log says that there is something."""
    said = absent_gpu.run(absent_gpu.with_a_broken_one, tmp_path)
    assert "1 of 2 kernels could not be prepared (CompileTimeAssertionFailure)" in said


def test_where_nothing_can_be_compiled_early_launches_compile(tmp_path: Path) -> None:
    """As without all this, with a word in the log."""
    said = absent_gpu.run(absent_gpu.without_threads, tmp_path)
    assert "1 of 1 kernels could not be prepared (RuntimeError)" in said


def test_one_layer_launches_the_kernels_of_all(tmp_path: Path) -> None:
    """In every form, with adapters and without, for single tokens and for pieces of prompts."""
    deep = tiny_base(tmp_path / "deep", num_hidden_layers=4)
    absent_gpu.run(absent_gpu.of_one_layer, tmp_path, str(deep))
