"""The manifest: keys that came later leave the digests of older adapters as they were."""

from __future__ import annotations

import msgspec

from adapters.manifest import BaseRef, Manifest, RunRef

BASE = BaseRef("tiny", "w" * 64, "t" * 64, "c" * 64)


def manifest(run: RunRef) -> Manifest:
    return Manifest(base=BASE, rank=8, alpha=16.0, target_modules=("q_proj",), run=run)


def test_an_adapter_of_no_sweep_has_no_key_for_it() -> None:
    """So it has the digest that it was registered with before there were sweeps."""
    run = RunRef("r", "d", "a" * 64, "b" * 64, 3)
    encoded = manifest(run).encoded()

    assert b"sweep" not in encoded
    assert msgspec.json.decode(encoded, type=Manifest).digest == manifest(run).digest
    assert manifest(run).digest != manifest(msgspec.structs.replace(run, sweep="s")).digest
