"""What a run was made with, compared with what it is resumed with."""

from __future__ import annotations

import copy

from training.environment import differences, machine


def test_the_same_machine_has_no_differences() -> None:
    """What is compared does not change from one moment to the next."""
    assert differences(machine(), machine()) == []


def test_every_difference_is_named() -> None:
    """Versions and hardware that are others, gone or new; nothing else a record holds matters,
    and not the size of the memory, which the next kernel may count differently.
    """
    recorded = copy.deepcopy(machine()) | {"command": ["lccc-admin"], "seeds": {"training": 1}}
    recorded["versions"]["torch"] = "1.0"
    recorded["hardware"] |= {"gpu": "a GPU", "cpu_threads": -1, "memory_bytes": 1}

    current = machine()

    assert differences(recorded, current) == [
        f"cpu_threads was -1, is {current['hardware']['cpu_threads']}",
        "gpu was a GPU, is absent",
        f"torch was 1.0, is {current['versions']['torch']}",
    ]
    assert f"python was absent, is {current['python']}" in differences({}, current)
