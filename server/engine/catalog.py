"""What is served right now: the base, and the adapters that the registry holds for it.

Lives on the event loop; the registry's files are read in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec.structs import asdict

from adapters.base import Base
from adapters.manifest import BaseRef, SamplingDefaults
from adapters.registry import Entry, Registry, Snapshot
from server.engine.errors import AdapterUnavailable, UnknownModel
from server.engine.types import ModelCard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """One reading of the registry, ``read``. ``entries`` are the adapters that can be served."""

    signature: tuple[int, ...] = ()
    read: Snapshot | None = None
    cards: Mapping[str, ModelCard] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)


class Catalog:
    """Follows the registry at ``root`` for one ``base``.

    The base's name always means the base. Names that cannot be served are listed as broken.
    ``sampling`` are the defaults of the base, and of adapters for what their manifests leave out.
    """

    def __init__(
        self,
        base: Base,
        root: Path,
        *,
        context_length: int,
        poll_interval_s: float,
        sampling: SamplingDefaults | None = None,
    ) -> None:
        self._base = base
        self._registry = Registry(root)
        self._poll_interval_s = poll_interval_s
        self._listing = Listing()
        self._failed: dict[str, tuple[int, str]] = {}  # name -> which registration, and why
        self._reading = asyncio.Lock()
        self._is_reported = False
        self._base_card = ModelCard(
            name=base.name,
            parent=None,
            digest=base.ref.weights_sha256,
            created=int((base.path / "config.json").stat().st_mtime),
            context_length=context_length,
            sampling=sampling or SamplingDefaults(),
        )

    def cards(self) -> list[ModelCard]:
        """The base first, then the adapters by name."""
        names = sorted(self._listing.cards)
        return [self._base_card, *(self._marked(self._listing.cards[name]) for name in names)]

    def card(self, name: str) -> ModelCard:
        """One card.

        Raises:
            UnknownModel: not served when the registry was last read.
        """
        if name == self._base_card.name:
            return self._base_card
        if name in self._listing.cards:
            return self._marked(self._listing.cards[name])
        raise UnknownModel(name)

    async def find(self, name: str) -> Entry | None:
        """The entry to serve ``name`` with, ``None`` for the base; looks again before it says no.

        Raises:
            UnknownModel: neither the base nor registered.
            AdapterUnavailable: registered, but broken.
        """
        if name == self._base_card.name:
            return None
        if name not in self._listing.entries:
            await self.refresh()
        card = self.card(name)
        if card.state == "broken":
            raise AdapterUnavailable(name, card.reason or "")
        return self._listing.entries[name]

    def mark_failed(self, entry: Entry, reason: str) -> None:
        """Show ``entry`` as broken, for it could not be loaded, until it is registered again."""
        self._failed[entry.name] = (entry.generation, reason)

    async def follow(self) -> None:
        """Keep the listing fresh until cancelled."""
        while True:
            await asyncio.sleep(self._poll_interval_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the registry again if it has changed. What cannot be read stays as it was."""
        async with self._reading:
            try:
                self._listing = await asyncio.to_thread(self._read, self._listing)
            except Exception as error:  # noqa: BLE001 - whatever it is, serving goes on
                if not self._is_reported:
                    logger.warning("The registry cannot be read, serving what was known: %s", error)
                self._is_reported = True
                return
        self._is_reported = False
        entries = self._listing.entries
        self._failed = {
            name: failure
            for name, failure in self._failed.items()
            if name in entries and entries[name].generation == failure[0]
        }

    def _read(self, known: Listing) -> Listing:
        signature = self._registry.signature()
        if signature == known.signature:
            return known
        snapshot = self._registry.snapshot(known.read)
        listing = self._listed(signature, snapshot, known)
        return _kept(known, listing, snapshot.unread) if snapshot.unread else listing

    def _listed(self, signature: tuple[int, ...], snapshot: Snapshot, known: Listing) -> Listing:
        cards: dict[str, ModelCard] = {}
        entries: dict[str, Entry] = {}
        for name, reason in snapshot.broken.items():
            cards[name] = self._broken_card(name, reason)
        for name, entry in snapshot.entries.items():
            misfit = _misfit(entry.manifest.base, self._base.ref)
            is_known = known.read is not None and known.read.entries.get(name) is entry
            card = known.cards.get(name) if is_known else None
            cards[name] = card or self._card(entry, misfit)
            if misfit is None:
                entries[name] = entry
        if self._base_card.name in cards:
            logger.warning("The adapter '%s' is hidden by the base.", self._base_card.name)
            cards.pop(self._base_card.name)
            entries.pop(self._base_card.name, None)
        return Listing(signature, snapshot, cards, entries)

    def _card(self, entry: Entry, reason: str | None) -> ModelCard:
        manifest = entry.manifest
        return ModelCard(
            name=entry.name,
            parent=self._base_card.name,
            digest=entry.digest,
            created=entry.created,
            context_length=self._base_card.context_length,
            state="ready" if reason is None else "broken",
            reason=reason,
            rank=manifest.rank,
            system_prompt=manifest.system_prompt,
            sampling=_completed(manifest.sampling, self._base_card.sampling),
        )

    def _broken_card(self, name: str, reason: str) -> ModelCard:
        return ModelCard(
            name=name,
            parent=self._base_card.name,
            digest="",
            created=0,
            context_length=self._base_card.context_length,
            state="broken",
            reason=reason,
        )

    def _marked(self, card: ModelCard) -> ModelCard:
        if card.name not in self._failed:
            return card
        return replace(card, state="broken", reason=self._failed[card.name][1])


def _kept(known: Listing, found: Listing, unread: frozenset[str]) -> Listing:
    """What was ``found``, with what was known of names that are ``unread``; to be read again."""
    cards, entries = dict(found.cards), dict(found.entries)
    for name in unread & known.cards.keys():
        cards[name] = known.cards[name]
        if name in known.entries:
            entries[name] = known.entries[name]
    return Listing(read=found.read, cards=cards, entries=entries)


def _completed(own: SamplingDefaults, base: SamplingDefaults) -> SamplingDefaults:
    """An adapter's own defaults, and the base's where it has none."""
    given = {name: value for name, value in asdict(own).items() if value is not None}
    return SamplingDefaults(**asdict(base) | given)


def _misfit(trained_on: BaseRef, served: BaseRef) -> str | None:
    """Why an adapter of ``trained_on`` cannot be served on ``served``, if so."""
    if trained_on.weights_sha256 != served.weights_sha256:
        return (
            f"it was trained on '{trained_on.name}' ({trained_on.weights_sha256[:12]}), "
            f"but '{served.name}' ({served.weights_sha256[:12]}) is served"
        )
    if trained_on.template_sha256 != served.template_sha256:
        return "it was trained with another chat template than the served base has"
    return None
