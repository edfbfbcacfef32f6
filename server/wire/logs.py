"""``/admin/logs``: what the server has logged."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Level = Literal["debug", "info", "warning", "error"]


class LogLine(Struct, frozen=True, kw_only=True):
    """One line, numbered from 1; ``time`` is in Unix seconds. A traceback is part of the text."""

    seq: int
    time: float
    level: Level
    logger: str
    text: str


class LogLines(Struct, frozen=True, kw_only=True):
    """Lines in order. ``first`` is the oldest that the server still has."""

    data: list[LogLine]
    first: int
    object: Literal["list"] = "list"
