"""What msgspec has to know of our types before threads use them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest

from adapters.structs import prepare_structs

# Many new types, each met by several threads at once: without preparation a process of 60 of them
# has not been seen to survive.
RACE = """
import sys, threading, msgspec
from adapters.structs import prepare_structs
sys.setswitchinterval(1e-6)
for number in range(60):
    inner = msgspec.defstruct("Inner", [("a", int)])
    middle = msgspec.defstruct("Middle", [("x", inner), ("y", dict[str, inner])])
    outer = msgspec.defstruct("Outer", [("p", inner), ("q", middle), ("r", list[middle])])
    found = {"x": {"a": 1}, "y": {}}
    value = {"p": {"a": 1}, "q": found, "r": [found]}
    prepare_structs()
    together = threading.Barrier(4)
    def meet():
        together.wait()
        msgspec.convert(value, outer)
    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_threads_may_meet_a_type_for_the_first_time() -> None:
    """All at once; msgspec would end the process."""
    ended = subprocess.run(
        [sys.executable, "-c", RACE], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nothing_is_worked_out_twice() -> None:
    """What is known of a type stays, and one that cannot be decoded to is no failure."""

    class Plain(msgspec.Struct):
        a: int

    class Callback(msgspec.Struct):
        call: Callable[[], None] | int | None

    prepare_structs()
    Plain.__annotations__["a"] = Callback.__annotations__["call"] = "Nowhere"
    assert msgspec.convert({"a": 1}, Plain) == Plain(1)
    with pytest.raises((NameError, TypeError)):
        msgspec.convert({"call": 1}, Callback)
