"""Kernels compiled for an H100 that is not there: what a test does in a process of its own.

Not in that of the tests, where Triton's interpreter runs kernels. Everything is real but for the
driver, which counts launches; tensors lie on the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs
from triton.backends.compiler import GPUTarget

from adapters.base import read_base
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.cuda import kernels
from server.engine.cuda.graphs import Graphs
from server.engine.cuda.kernels.precompile import _asked_by, precompile
from server.engine.cuda.model import CudaModel
from server.engine.cuda.steps import CudaSteps
from server.engine.spec import read_spec

TOGETHER_S = 60


def run(scenario: Callable[..., None], folder: Path, *arguments: str) -> str:
    """What ``scenario`` writes to its error stream; it has to succeed."""
    environment = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder / "triton")
    code = f"from {__name__} import {scenario.__name__} as it; it(*{arguments!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


class Launcher:
    """Counts how often its kernel is launched. ``made``: called with each that is made."""

    made: Callable[[], object] = staticmethod(lambda: None)
    launched = 0

    def __init__(self, source: Any, metadata: Any) -> None:
        type(self).made()

    def __call__(self, *arguments: Any) -> None:
        Launcher.launched += 1


class Utils:
    """What the driver knows of the GPU."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024}

    def load_binary(self, *_: Any) -> tuple[int, ...]:
        return 1, 1, 32, 0, 1024


class Driver:
    """An H100's, as far as Triton asks it."""

    utils = Utils()
    launcher_cls = Launcher

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 3

    def set_current_device(self, device: int) -> None:
        assert device == 3

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled_from_now_on() -> list[str]:
    """The names of kernels that are compiled, or read from disk, from now on."""
    triton.runtime.driver.set_active(Driver())
    names: list[str] = []
    knobs.compilation.listener = lambda *, src, **_: names.append(src.name)
    return names


@triton.jit
def _doubled(x, size: tl.constexpr):
    at = x + tl.arange(0, size)
    tl.store(at, tl.load(at) * 2)


SOME = tl.constexpr(16)


@triton.jit
def _some(x):
    return tl.load(x + tl.arange(0, SOME))


@triton.jit
def _sum_of_some(x):
    tl.store(x, tl.sum(_some(x), axis=0))


@triton.jit
def _most_of_some(x):
    tl.store(x, tl.max(_some(x), axis=0))


@triton.jit
def _broken(x):
    tl.static_assert(x.dtype == tl.int8, "not on this GPU")


def side_by_side() -> None:
    """Two forms, of which one is asked for twice."""
    names, x = compiled_from_now_on(), torch.zeros(64)

    def play() -> None:
        for size in (32, 64, 32):
            _doubled[(1,)](x, size)

    sys.modules[precompile.__module__].processors = lambda: 2  # type: ignore[attr-defined] # it has
    both, met = threading.Barrier(2), []
    Launcher.made = staticmethod(lambda: met.append(both.wait(TOGETHER_S)))
    precompile(play)
    assert (names, Launcher.launched) == (["_doubled"] * 2, 0)
    assert len(met) == 2, "one was not begun before the other was done"
    Launcher.made = staticmethod(lambda: None)

    play()
    assert (len(names), Launcher.launched) == (2, 3)


def under_the_same_keys() -> None:
    """What is called by two kernels has globals, which are in the key of one of them alone."""
    compiled_from_now_on()
    x, keyed = torch.zeros(64), []

    def play() -> None:
        _sum_of_some[(1,)](x)
        _most_of_some[(1,)](x)

    knobs.runtime.jit_cache_hook = lambda *, fn, **_: keyed.append(fn.jit_function.hash is not None)
    precompile(play)
    assert keyed == [True, True], "threads compute keys, in any order"


def beside_others() -> None:
    """Another thread launches meanwhile, and what is played breaks off."""
    names, x = compiled_from_now_on(), torch.zeros(64)
    knobs.runtime.jit_cache_hook = hook = lambda **_: False

    def play() -> None:
        other = threading.Thread(target=_doubled[(1,)], args=(x, 16))
        other.start()
        other.join()
        assert (names, Launcher.launched) == (["_doubled"], 1)
        _doubled[(1,)](x, 32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        precompile(play)
    assert knobs.runtime.jit_cache_hook is hook
    _doubled[(1,)](x, 32)
    assert (len(names), Launcher.launched) == (2, 2)


def with_a_broken_one() -> None:
    """It fails where it is launched, and the other one is ready."""
    names, x = compiled_from_now_on(), torch.zeros(64)

    def play() -> None:
        _broken[(1,)](x)
        _doubled[(1,)](x, 64)

    precompile(play)
    assert names == ["_doubled"]
    with pytest.raises(triton.CompilationError, match="not on this GPU"):
        _broken[(1,)](x)
    _doubled[(1,)](x, 64)
    assert (len(names), Launcher.launched) == (1, 1)


def without_threads() -> None:
    """There can be no more of them."""
    names, x = compiled_from_now_on(), torch.zeros(64)

    def none(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    sys.modules[precompile.__module__].ThreadPoolExecutor.submit = none  # type: ignore[attr-defined] # it has
    precompile(lambda: _doubled[(1,)](x, 64))
    assert (names, Launcher.launched) == ([], 0)
    _doubled[(1,)](x, 64)
    assert (names, Launcher.launched) == (["_doubled"], 1)


class Tape:
    """Plays."""

    def play(self, play: Callable[[], None]) -> None:
        play()


def of_one_layer(base: str) -> None:
    """What an engine asks for in advance, and what its graphs launch."""
    names = compiled_from_now_on()
    config = EngineConfig(
        base=read_base(Path(base), "deep"),
        registry_root=Path(base) / "none",
        weights="bf16",
        device="cpu",
        max_running=16,
        max_context=64,
        kv_cache_tokens=64,
        prefill_chunk_tokens=64,
    )
    model = CudaModel(config, read_spec(config.base), kernels)
    cache = KVCache(
        config.base.architecture, blocks=9, dtype=torch.bfloat16, device=torch.device("cpu")
    )
    steps = CudaSteps(model._decoder, kernels, cache, config)
    early: dict[str, Any] = {}
    late: dict[str, Any] = {}
    kernels.precompile = lambda play: early.update(_asked_by(play))
    Graphs.record_all = lambda self, tape: late.update(_asked_by(lambda: self.play_all(tape)))
    with torch.inference_mode():
        steps._record(Tape())
    assert len(late) > 20, "kernels are not launched"
    assert early == late
    assert (names, Launcher.launched) == ([], 0)
