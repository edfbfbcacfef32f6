"""``/admin/jobs``: processes that the server started and that outlive it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class JobProgress(Struct, frozen=True, kw_only=True):
    """``done`` of ``total`` of the present stage; ``share`` (0 to 1) is of the whole job.

    ``subject`` is what the stage is about: a model, or what is counted. ``total`` is 0 where it is
    not known.
    """

    stage: str
    subject: str
    done: int
    total: int
    share: float


class JobCard(Struct, frozen=True, kw_only=True):
    """A command line in a process of its own. ``subject`` is what it makes or looks at.

    ``run`` is the training's run, once it has one. ``result`` is the path of what a complete one
    has made, where that is no dataset and no run. ``progress`` is what a running one has told of
    itself, where it has. ``error`` is the command's own message. ``said``
    is the last line that it wrote, ``output`` the last ones. A job that is asked to cancel is
    running until its process has ended.
    """

    id: str
    kind: Literal["train", "resume", "prepare", "merge", "evaluate", "sweep"]
    subject: str
    state: Literal["running", "completed", "failed", "cancelled"]
    started: float
    run: str | None
    result: str | None
    is_asked_to_cancel: bool
    progress: JobProgress | None
    error: str | None
    said: str
    output: str


class JobList(Struct, frozen=True, kw_only=True):
    """The newest jobs first."""

    data: list[JobCard]
    object: Literal["list"] = "list"
