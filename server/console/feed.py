"""What one page is told over its WebSocket: the past from where it left off, then what comes.

It only reads files and the log book, so a page that comes back, or a server that starts again,
picks up at the number that the page has seen last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from server.console.changes import Changes, Subject
from server.console.job_cards import job_card
from server.console.jobs import Job, JobNotFound, Jobs
from server.console.logbook import Logbook
from server.console.run_records import RunRecords, card, log_text
from server.wire.events import (
    ChangeNews,
    Command,
    Complaint,
    JobNews,
    LogNews,
    News,
    RunNews,
    TextNews,
    Unwatch,
    WatchJob,
    WatchLog,
    WatchRun,
    WatchText,
)
from server.wire.jobs import JobCard
from server.wire.runs import RunCard
from training.errors import RunNotFound
from training.runs import Event, EventReader, Run
from training.runs.reader import offset_after

MOST_WATCHED = 32
EVENTS_A_MESSAGE = 500


class Watch(Protocol):
    """Something that is looked at again and again."""

    def news(self) -> Iterator[News]:
        """What has come since the last time."""


class Sources:
    """Where news come from."""

    def __init__(self, records: RunRecords, jobs: Jobs, logbook: Logbook, changes: Changes) -> None:
        self.records = records
        self.jobs = jobs
        self.logbook = logbook
        self.changes = changes


class Feed:
    """What one page watches. Asked for again, a thing is watched from the new place on."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._watched: dict[str, Watch] = {}
        self._changes: _ChangesWatch | None = None  # kept, so that asking anew misses nothing

    def take(self, command: Command) -> None:
        """Do what the page asks for.

        Raises:
            RunNotFound, JobNotFound: there is no such thing.
            ValueError: it watches too much.
        """
        if isinstance(command, Unwatch):
            self._watched.clear()
            return
        name, watch = self._watch(command)
        if name not in self._watched and len(self._watched) >= MOST_WATCHED:
            raise ValueError(f"A page can watch {MOST_WATCHED} things at a time.")
        self._watched[name] = watch

    def _watch(self, command: Command) -> tuple[str, Watch]:
        sources = self._sources
        match command:
            case WatchRun():
                run = sources.records.get(command.run)
                return f"run {run.id}", _RunWatch(run, command.after)
            case WatchJob():
                job = sources.jobs.get(command.job)
                return f"job {job.id}", _JobWatch(job)
            case WatchText(source="run"):
                path = sources.records.get(command.id).log_path
                return f"text run {command.id}", _TextWatch(command, path)
            case WatchText():
                path = sources.jobs.get(command.id).output_path
                return f"text job {command.id}", _TextWatch(command, path)
            case WatchLog():
                return "log", _LogWatch(sources.logbook, command.after)
            case _:
                self._changes = self._changes or _ChangesWatch(sources.changes)
                return "changes", self._changes

    def news(self) -> Iterator[News]:
        """What has come for the page since the last time; reads files."""
        for name, watch in list(self._watched.items()):
            try:
                yield from watch.news()
            except (RunNotFound, JobNotFound, OSError) as error:
                self._watched.pop(name, None)
                yield Complaint(message=str(error))


class _RunWatch:
    def __init__(self, run: Run, after: int) -> None:
        self._run = run
        offset = offset_after(run.events_path, after)
        self._reader = EventReader(run.events_path, Event, offset)
        self._status: RunCard | None = None

    def news(self) -> Iterator[News]:
        # First the status: what was written before its end is read after it.
        status = card(self._run)
        events = self._reader.read()
        changed = status if status != self._status else None
        self._status = status
        if not events and changed is None:
            return
        for start in range(0, max(1, len(events)), EVENTS_A_MESSAGE):
            part = events[start : start + EVENTS_A_MESSAGE]
            is_last = start + EVENTS_A_MESSAGE >= len(events)
            yield RunNews(run=self._run.id, events=[*part], status=changed if is_last else None)


class _JobWatch:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._card: JobCard | None = None

    def news(self) -> Iterator[News]:
        found = job_card(self._job)
        if found != self._card:
            self._card = found
            yield JobNews(job=found)


class _TextWatch:
    def __init__(self, command: WatchText, path: Path) -> None:
        self._command = command
        self._path = path
        self._next = command.after

    def news(self) -> Iterator[News]:
        while (found := log_text(self._path, self._next)).text:
            self._next = found.next
            yield TextNews(
                source=self._command.source, id=self._command.id, text=found.text, next=found.next
            )
        self._next = max(0, found.next)


class _LogWatch:
    def __init__(self, logbook: Logbook, after: int) -> None:
        self._logbook = logbook
        self._seq = after

    def news(self) -> Iterator[News]:
        lines = self._logbook.after(self._seq).data
        if lines:
            self._seq = lines[-1].seq
            yield LogNews(lines=lines)


class _ChangesWatch:
    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # Nothing is known of what the page has: what it asked for a moment before it could be told
        # of changes may be old already, so at first every list is named.
        self._seen: dict[Subject, Any] = {}

    def news(self) -> Iterator[News]:
        signs = self._changes.signs()
        what = [name for name, sign in signs.items() if sign != self._seen.get(name)]
        self._seen = signs
        if what:
            yield ChangeNews(what=[*what])


def encoded(news: News) -> str:
    """As it goes over the wire."""
    return msgspec.json.encode(news).decode()
