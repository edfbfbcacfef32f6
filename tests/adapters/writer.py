"""A process that writes into a registry: ``python -m tests.adapters.writer`` (no torch)."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from adapters.base import read_base
from adapters.errors import AdapterNotFound
from adapters.registry import Registry
from tests.adapters.disks import KillingDisk


def die_after(root: str, base: str, source: str, survived: str) -> None:
    """Register as ``poet``, but get killed after so many steps."""
    registry = Registry(Path(root), KillingDisk(int(survived)))
    registry.register(Path(source), "poet", read_base(Path(base), "tiny"))


def churn(root: str, base: str, seed: str, changes: str, *sources: str) -> None:
    """Register and remove three names at random; print how many changes were made."""
    registry, chosen = Registry(Path(root)), random.Random(seed)
    made, target = 0, read_base(Path(base), "tiny")
    while made < int(changes):
        name = chosen.choice(["a", "b", "c"])
        try:
            if chosen.random() < 0.3:
                registry.remove(name)
            else:
                registry.register(Path(chosen.choice(sources)), name, target)
        except AdapterNotFound:
            continue  # removed already, which changes nothing
        made += 1
        if made % 5 == 0:
            registry.collect_garbage(grace_s=0)
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    {"die_after": die_after, "churn": churn}[sys.argv[1]](*sys.argv[2:])
