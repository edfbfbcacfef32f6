"""The process's environment: what libraries read when they are first loaded."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping


def prepare_environment(environment: MutableMapping[str, str]) -> None:
    """Set what must be set before torch is imported; values already there are kept.

    By default OpenMP's threads spin for long at every barrier while something else wants the core.
    A short spin gives it up soon; none at all makes the small operations of a training two to
    three times as slow (BENCHMARKS.md).
    The other keeps tokenizers from a second pool of threads.
    """
    environment.setdefault("GOMP_SPINCOUNT", "10000")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")


def go_offline(environment: MutableMapping[str, str]) -> None:
    """From here on nothing in this process asks a hub, whatever a library would like to look up."""
    environment["HF_HUB_OFFLINE"] = "1"
    if loaded := sys.modules.get("huggingface_hub.constants"):  # it has read the environment
        vars(loaded)["HF_HUB_OFFLINE"] = True
