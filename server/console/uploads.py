"""Files that browsers send, in pieces: each arrives within the time that a request has.

``uploads/ID/`` holds ``upload.json`` and the file under its own name, because a dataset's manifest
says what its input was called.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from server.wire.datasets import UploadCard

KEPT_S = 24 * 3600
_ID = re.compile(r"[0-9a-f]{16}")
_DESCRIPTION = "upload.json"


class UploadNotFound(Exception):
    """There is no upload of this id, or no longer."""


class UploadTooLarge(Exception):
    """The disk has not so much room."""


class UploadOutOfStep(Exception):
    """A piece begins elsewhere than where the last one ended. ``received`` is where."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


class Uploads:
    """The files below ``root`` that are being sent, or were within the last day."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def begin(self, name: str, size: int) -> UploadCard:
        """Make room for a file of ``size`` bytes.

        Raises:
            UploadTooLarge: the disk has not so much.
            OSError: it cannot be written to.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_old()
        if shutil.disk_usage(self._root).free < size:
            raise UploadTooLarge(f"{size:,} bytes are more than the server's disk has room for")
        card = UploadCard(id=secrets.token_hex(8), name=name, size=size, received=0)
        directory = self._root / card.id
        (directory / "content").mkdir(parents=True)
        (directory / _DESCRIPTION).write_bytes(msgspec.json.encode(card))
        self._content(card).touch()
        return card

    def get(self, upload_id: str) -> UploadCard:
        """How far it is.

        Raises:
            UploadNotFound: there is none.
        """
        path = self._root / upload_id / _DESCRIPTION
        if not _ID.fullmatch(upload_id) or not path.is_file():
            raise UploadNotFound(upload_id)
        card = msgspec.json.decode(path.read_bytes(), type=UploadCard)
        return msgspec.structs.replace(card, received=self._content(card).stat().st_size)

    def append(self, upload_id: str, offset: int, piece: bytes) -> UploadCard:
        """Add the bytes from ``offset`` on.

        Raises:
            UploadNotFound: there is none.
            UploadOutOfStep: other bytes come next, or there are more than were announced.
            OSError: they cannot be written; what was received before is as it was.
        """
        card = self.get(upload_id)
        if offset != card.received or offset + len(piece) > card.size:
            raise UploadOutOfStep(card.received)
        with self._content(card).open("ab") as file:
            try:
                file.write(piece)
                file.flush()
            except OSError:
                os.ftruncate(file.fileno(), offset)
                raise
        return msgspec.structs.replace(card, received=offset + len(piece))

    def path(self, upload_id: str) -> Path:
        """The file, once it is whole.

        Raises:
            UploadNotFound: there is none.
            UploadOutOfStep: not all of it is here.
        """
        card = self.get(upload_id)
        if card.received < card.size:
            raise UploadOutOfStep(card.received)
        return self._content(card)

    def _content(self, card: UploadCard) -> Path:
        return self._root / card.id / "content" / card.name

    def _forget_old(self) -> None:
        for path in self._root.iterdir():
            with suppress(OSError):
                if _ID.fullmatch(path.name) and time.time() - path.stat().st_mtime > KEPT_S:
                    shutil.rmtree(path)
