"""``/admin/jobs``: processes that the server started and that outlive it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class JobCard(Struct, frozen=True, kw_only=True):
    """A command line in a process of its own. ``subject`` is the adapter or dataset it makes.

    ``run`` is the training's run, once it has one. ``error`` is the command's own message.
    ``output`` are the last lines that it wrote.
    """

    id: str
    kind: Literal["train", "resume", "prepare"]
    subject: str
    state: Literal["running", "completed", "failed"]
    started: float
    run: str | None
    error: str | None
    output: str


class JobList(Struct, frozen=True, kw_only=True):
    """The newest jobs first."""

    data: list[JobCard]
    object: Literal["list"] = "list"
