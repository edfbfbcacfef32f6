"""The error object that every refusal carries, and the refusal of a malformed request."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct


class ErrorBody(Struct, frozen=True, kw_only=True):
    """What went wrong. All four keys are always present.

    ``param`` names the offending parameter, e.g. ``messages[0].role``; ``code`` is for programs.
    """

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(Struct, frozen=True):
    """``{"error": {...}}``: the body of every answer that is no success."""

    error: ErrorBody


class InvalidRequest(Exception):
    """The body is not a request we can serve; the client has to change it."""

    status: ClassVar[int] = 400

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        self.message = message
        self.param = param
        self.code = code
        super().__init__(message)


class NotKept(InvalidRequest):
    """It names a response or an item that the server never kept, or keeps no longer."""

    status = 404
