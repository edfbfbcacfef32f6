"""The process's environment: what libraries read when they are first loaded."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

ROOT = Path("/")
_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)


def prepare_environment(environment: MutableMapping[str, str], root: Path = ROOT) -> None:
    """Set what must be set before torch is imported; values already there are kept.

    By default OpenMP's threads spin for long at every barrier while something else wants the core.
    A short spin gives it up soon; none at all makes the small operations of a training two to
    three times as slow (BENCHMARKS.md).
    A container's share of the processors bounds the threads: of more, some always stand still, and
    the others wait for them. ``root`` is where the system's files lie.
    TOKENIZERS_PARALLELISM keeps tokenizers from a second pool of threads.
    TORCHDYNAMO_DISABLE keeps bitsandbytes, which hands functions to `torch.compile` as it is
    imported, from loading a compiler that nothing here uses (BENCHMARKS.md).
    """
    environment.setdefault("GOMP_SPINCOUNT", "10000")
    share = cpu_share(root)
    if share is not None and share < usable_cpus():
        environment.setdefault("OMP_NUM_THREADS", str(share))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("TORCHDYNAMO_DISABLE", "1")


def usable_cpus() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processors() -> int:
    """How many of them this process may keep busy."""
    return min(usable_cpus(), cpu_share() or usable_cpus())


def cpu_share(root: Path = ROOT) -> int | None:
    """Processors' worth of time that Linux's control groups grant, rounded up; ``None``: no limit.

    The least of the own group's and those above it, of either version (kernel's documentation,
    ``admin-guide/cgroup-v2.rst``, ``cpu.max``; ``scheduler/sched-bwc.rst``).
    """
    shares = [math.ceil(quota / period) for quota, period in _quotas(root) if quota > 0 < period]
    return min(shares, default=None)


def memory_left(root: Path = ROOT) -> int | None:
    """Bytes that Linux's control groups still grant; ``None``: no limit.

    The least of the own group's and those above it. Pages of files that were not used of late count
    as free, as the kernel takes them first (kernel's documentation, ``admin-guide/cgroup-v2.rst``,
    ``memory.max``; ``cgroup-v1/memory.rst``).
    """
    left = []
    for group, is_first_version in _groups(root, "memory"):
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if is_first_version
            else ("memory.max", "memory.current")
        )
        sizes = [_text(group / name).strip() for name in (limit, used)]
        if all(map(_WHOLE.fullmatch, sizes)):
            most, now = map(int, sizes)
            left.append(max(0, most - now + _unused_files(group)))
    return min(left, default=None)


def _unused_files(group: Path) -> int:
    """Bytes of pages of files in ``group`` that were not used of late."""
    lines = (line.split() for line in _text(group / "memory.stat").splitlines())
    named = {words[0]: words[1] for words in lines if len(words) == 2}  # noqa: PLR2004 - a pair
    found = named.get("total_inactive_file") or named.get("inactive_file") or "0"
    return int(found) if _WHOLE.fullmatch(found) else 0


def _quotas(root: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of processor time in so many microseconds, for each group that has a limit."""
    for group, is_first_version in _groups(root, "cpu"):
        quota = _text(group / "cpu.cfs_quota_us") + " " + _text(group / "cpu.cfs_period_us")
        fields = (quota if is_first_version else _text(group / "cpu.max")).split()
        if len(fields) == 2 and all(map(_WHOLE.fullmatch, fields)):  # noqa: PLR2004 - a pair
            yield int(fields[0]), int(fields[1])


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The groups of this process and those above, and whether they are of the first version."""
    groups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        is_first_version = controller in controllers.split(",")
        if controllers and not is_first_version:
            continue
        mount = groups / controller if is_first_version else groups
        own = mount / path.strip("/")
        for group in (own, *own.parents):
            yield group, is_first_version
            if group == mount:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def go_offline(environment: MutableMapping[str, str]) -> None:
    """From here on nothing in this process asks a hub, whatever a library would like to look up."""
    environment["HF_HUB_OFFLINE"] = "1"
    if loaded := sys.modules.get("huggingface_hub.constants"):  # it has read the environment
        vars(loaded)["HF_HUB_OFFLINE"] = True
