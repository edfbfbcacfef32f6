"""The environment is prepared before the heavy libraries are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.environment import (
    cpu_share,
    go_offline,
    memory_left,
    prepare_environment,
    processors,
    usable_cpus,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_the_environment_is_set_but_not_overruled() -> None:
    """Threads spin little and no compiler is loaded, unless the user chose otherwise; the hub can
    still be asked.
    """
    chosen = {"GOMP_SPINCOUNT": "100", "TORCHDYNAMO_DISABLE": "0"}
    empty: dict[str, str] = {}

    prepare_environment(chosen)
    prepare_environment(empty)

    assert chosen["GOMP_SPINCOUNT"] == "100"
    assert chosen["TORCHDYNAMO_DISABLE"] == "0"
    assert empty["GOMP_SPINCOUNT"] == "10000"
    assert empty["TORCHDYNAMO_DISABLE"] == "1"
    assert "HF_HUB_OFFLINE" not in empty


def test_offline_reaches_a_library_that_is_already_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once the base is there, no look-up on a hub is made any more, whatever was set before."""
    from huggingface_hub import constants, is_offline_mode

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    environment = {"HF_HUB_OFFLINE": "0"}

    go_offline(environment)

    assert environment == {"HF_HUB_OFFLINE": "1"}
    assert is_offline_mode()


SHARES = {
    "second version, of a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        2,
    ),
    "second version, of a service above": (
        {
            "proc/self/cgroup": "0::/a.slice/b.service\n",
            "sys/fs/cgroup/a.slice/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/a.slice/b.service/cpu.max": "400000 100000\n",
        },
        1,
    ),
    "first version": (
        {
            "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/c\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "no limit": (
        {
            "proc/self/cgroup": "4:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "what nobody expects": (
        {
            "proc/self/cgroup": "0::/höhe\nnonsense\n",
            "sys/fs/cgroup/höhe/cpu.max": "a b\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
        1,
    ),
    "no groups": ({}, None),
}


@pytest.mark.parametrize(("files", "share"), SHARES.values(), ids=SHARES.keys())
def test_a_share_of_the_processors_is_read(
    files: dict[str, str], share: int | None, tmp_path: Path
) -> None:
    """Of both versions of control groups, also where the limit is on a group above."""
    assert cpu_share(write(tmp_path, files)) == share


MEMORY = {
    "second version, with files that are not used": (
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "700\n",
            "sys/fs/cgroup/memory.stat": "anon 400\ninactive_file 100\nactive_file 200\n",
        },
        400,
    ),
    "second version, of a service above": (
        {
            "proc/self/cgroup": "0::/a.slice/b.service\n",
            "sys/fs/cgroup/a.slice/memory.max": "1000\n",
            "sys/fs/cgroup/a.slice/memory.current": "900\n",
            "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
            "sys/fs/cgroup/a.slice/b.service/memory.current": "800\n",
        },
        100,
    ),
    "first version, and more is used than may be": (
        {
            "proc/self/cgroup": "5:memory:/docker/c\n4:cpu,cpuacct:/x\n0::/\n",
            "sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes": "1000\n",
            "sys/fs/cgroup/memory/docker/c/memory.usage_in_bytes": "1900\n",
            "sys/fs/cgroup/memory/docker/c/memory.stat": "inactive_file 1\ntotal_inactive_file 5\n",
        },
        0,
    ),
    "no limit": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
        None,
    ),
    "no groups": ({}, None),
}


@pytest.mark.parametrize(("files", "left"), MEMORY.values(), ids=MEMORY.keys())
def test_what_a_container_leaves_of_the_memory_is_read(
    files: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    """Of both versions of control groups; pages of files that are not used count as free."""
    assert memory_left(write(tmp_path, files)) == left


def test_threads_are_no_more_than_the_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user chose otherwise, or has fewer processors anyway."""
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}
    root = write(tmp_path, files)
    for cpus, given, expected in (
        (64, {}, "2"),
        (64, {"OMP_NUM_THREADS": "8"}, "8"),
        (2, {}, None),
    ):
        monkeypatch.setattr("adapters.environment.usable_cpus", lambda cpus=cpus: cpus)
        environment = dict(given)
        prepare_environment(environment, root)
        assert environment.get("OMP_NUM_THREADS") == expected


@pytest.mark.parametrize(
    ("cpus", "share", "expected"), [(8, None, 8), (8, 3, 3), (2, 3, 2)], ids=str
)
def test_no_more_processors_are_kept_busy_than_are_granted(
    cpus: int, share: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those that a process is kept from, nor those that its group has no share of."""
    monkeypatch.setattr("adapters.environment.usable_cpus", lambda: cpus)
    monkeypatch.setattr("adapters.environment.cpu_share", lambda: share)
    assert processors() == expected


def test_at_least_one_processor_is_usable() -> None:
    """The one that runs the test."""
    assert usable_cpus() >= 1
