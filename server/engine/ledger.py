"""The generations that have not ended: where their events go, and what each of them holds.

Lives on the event loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from adapters.entry import Entry
from server.engine.admission import Admission
from server.engine.bank import AdapterBank
from server.engine.errors import GenerationFailed
from server.engine.generation import ENDS, Mailbox
from server.engine.loop import BROKE_OFF, Notice


@dataclass(slots=True)
class _Open:
    """Where its events go, and which adapter it pins.

    ``waiting_tokens`` of its prompt are counted until it begins to reply.
    """

    mailbox: Mailbox
    pinned: str | None
    waiting_tokens: int


class Ledger:
    """What is open. At its end a generation leaves ``admission``, and its adapter in ``bank``."""

    def __init__(self, admission: Admission, bank: AdapterBank[Entry]) -> None:
        self._admission = admission
        self._bank = bank
        self._keys = itertools.count()
        self._open: dict[int, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, pinned: str | None, waiting_tokens: int) -> tuple[int, Mailbox]:
        """One more, which is admitted and pins the adapter of digest ``pinned``; its key."""
        key, mailbox = next(self._keys), Mailbox()
        self._open[key] = _Open(mailbox, pinned, waiting_tokens)
        return key, mailbox

    def receive(self, notices: Rows[Notice]) -> None:
        """Pass events on to their generations, and let go of what ended."""
        for key, event in notices:
            opened = self._open[key]
            if opened.waiting_tokens:
                self._admission.begin(opened.waiting_tokens)
                opened.waiting_tokens = 0
            opened.mailbox.put(event)
            if isinstance(event, ENDS):
                self._settle(key)

    def break_off(self) -> None:
        """Tell all that are left when the thread has ended, also those that it never took in."""
        self.receive([(key, GenerationFailed(BROKE_OFF)) for key in self._open])

    def _settle(self, key: int) -> None:
        opened = self._open.pop(key)
        self._admission.leave()
        if opened.pinned is not None:
            self._bank.release(opened.pinned)

    def check_integrity(self) -> None:
        """Assert that what is counted and pinned is so by those that are open."""
        opened = self._open.values()
        assert self._admission.open == len(opened), "counted are others than open"
        assert self._bank.pinned == {one.pinned for one in opened} - {None}, (
            "the bank pins others than are in use"
        )
        waiting = sum(one.waiting_tokens for one in opened)
        assert self._admission.waiting_tokens == waiting, "counted tokens wait for nobody"
