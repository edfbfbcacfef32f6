"""``/admin/events``: what a page asks for over its WebSocket, and what it is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from server.wire.jobs import JobCard
from server.wire.logs import LogLine
from server.wire.runs import RunCard

Id = Annotated[str, Meta(min_length=1, max_length=256)]


class WatchRun(Struct, frozen=True, tag_field="watch", tag="run"):
    """The events of a run with numbers above ``after``, then those that come."""

    run: Id
    after: Annotated[int, Meta(ge=0)] = 0


class WatchJob(Struct, frozen=True, tag_field="watch", tag="job"):
    """A job as it stands, and again whenever that has changed."""

    job: Id


class WatchLog(Struct, frozen=True, tag_field="watch", tag="log"):
    """The lines that the server logged with numbers above ``after``, then those that come."""

    after: Annotated[int, Meta(ge=0)] = 0


class WatchText(Struct, frozen=True, tag_field="watch", tag="text"):
    """The log of a run, or the output of a job, from byte ``after`` on; below 0, from the end."""

    source: Literal["run", "job"]
    id: Id
    after: int = 0


class WatchChanges(Struct, frozen=True, tag_field="watch", tag="changes"):
    """All lists by name, so that they are asked for now; then those that change."""


class Unwatch(Struct, frozen=True, tag_field="watch", tag="nothing"):
    """None of what was asked for before."""


Command = WatchRun | WatchJob | WatchLog | WatchText | WatchChanges | Unwatch


class RunNews(Struct, frozen=True, tag_field="type", tag="run", kw_only=True):
    """Events of a run in order, as its log has them, and its status where that has changed."""

    run: str
    events: list[Any]
    status: RunCard | None


class JobNews(Struct, frozen=True, tag_field="type", tag="job", kw_only=True):
    """A job as `GET /admin/jobs` lists it."""

    job: JobCard


class LogNews(Struct, frozen=True, tag_field="type", tag="log", kw_only=True):
    """Lines that the server has logged."""

    lines: list[LogLine]


class TextNews(Struct, frozen=True, tag_field="type", tag="text", kw_only=True):
    """Whole lines of a file; ``next`` is the byte after them."""

    source: str
    id: str
    text: str
    next: int


class ChangeNews(Struct, frozen=True, tag_field="type", tag="changed", kw_only=True):
    """Of these lists something has changed."""

    what: list[str]


class Complaint(Struct, frozen=True, tag_field="type", tag="error", kw_only=True):
    """What was asked for cannot be had."""

    message: str


News = RunNews | JobNews | LogNews | TextNews | ChangeNews | Complaint
