"""Everything that is known of the base and its adapters, as the console shows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from adapters.base import Base
from adapters.base_evaluations import BaseEvaluations
from adapters.entry import Entry, Snapshot
from adapters.errors import AdapterError
from adapters.home import Home
from adapters.manifest import Evaluation
from adapters.registry import Registry
from server.engine.types import Device
from server.wire.adapters import AdapterCard, AdapterList, AdapterRun, BaseCard, EvaluationCard


class AdapterCards:
    """The adapters below ``home``, of which only what has changed is read again.

    May be asked from several threads.
    """

    def __init__(self, home: Home) -> None:
        self._registry = Registry(home.registry)
        self._evaluations = BaseEvaluations(home.evaluations)
        self._known: Snapshot | None = None

    def list(
        self,
        base: Base,
        device: Device,
        resident: Collection[str],
        served: Mapping[str, int],
    ) -> AdapterList:
        """What the registry has, and what was measured; reads their files.

        ``resident`` are digests of adapters in memory, ``served`` counts requests by model.

        Raises:
            AdapterError: the registry cannot be read.
        """
        self._known = found = self._registry.snapshot(self._known)
        broken = dict(found.broken)
        measured: tuple[Evaluation, ...] = ()
        try:
            measured = self._evaluations.of(base.ref)
        except AdapterError as error:  # figures that are lost keep nobody from the rest
            broken[base.name] = str(error)
        return AdapterList(
            base=_base(base, device, measured),
            data=[
                _adapter(found.entries[name], resident, served) for name in sorted(found.entries)
            ],
            broken=broken,
        )


def _base(base: Base, device: Device, measured: Iterable[Evaluation]) -> BaseCard:
    shape = base.architecture
    return BaseCard(
        name=base.name,
        path=str(base.path),
        kind=shape.model_type,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        context_length=shape.context_length,
        size_bytes=_weights_bytes(base),
        weights_sha256=base.ref.weights_sha256,
        tokenizer_sha256=base.ref.tokenizer_sha256,
        template_sha256=base.ref.template_sha256,
        device=device.name,
        weights=device.weights,
        evaluations=_evaluations(measured),
    )


def _evaluations(measured: Iterable[Evaluation]) -> list[EvaluationCard]:
    return [msgspec.convert(one, EvaluationCard, from_attributes=True) for one in measured]


def _weights_bytes(base: Base) -> int:
    return sum(path.stat().st_size for path in base.path.glob("*.safetensors"))


def _adapter(entry: Entry, resident: Collection[str], served: Mapping[str, int]) -> AdapterCard:
    manifest, run = entry.manifest, entry.manifest.run
    return AdapterCard(
        name=entry.name,
        digest=entry.digest,
        created=entry.created,
        base=manifest.base.name,
        rank=manifest.rank,
        alpha=manifest.alpha,
        targets=list(manifest.target_modules),
        run=msgspec.convert(run, AdapterRun, from_attributes=True) if run else None,
        metrics=manifest.metrics,
        size_bytes=sum(file.size for file in manifest.files),
        is_resident=entry.digest in resident,
        requests=served.get(entry.name, 0),
        evaluations=_evaluations(manifest.measured),
    )
