"""The engine's thread: takes commands, makes steps, and hands out what happened.

It alone touches the scheduler and the runner's tensors. Others talk to it through an inbox, and it
answers with one call of ``deliver`` for all that a step produced.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias

from server.engine.draw import Drawn, Scores
from server.engine.errors import EngineClosed, GenerationFailed
from server.engine.scheduler import Scheduler
from server.engine.sequence import Chunk, Sequence
from server.engine.trial import Trial
from server.engine.types import Event, FinishReason

logger = logging.getLogger(__name__)

# What happened to the sequence of a key.
Notice = tuple[int, Event | GenerationFailed]

BROKE_OFF = "The reply broke off because of an error in the server; its log says which."
NO_NUMBERS = "The reply broke off: the model computed values that are not finite."
NOTHING_ALLOWED = "The reply broke off: no token is allowed to follow."
NOT_TRIED = "The adapter could not be tried because of an error in the server; its log says which."


# The next token of a sequence, or logprobs of its prompt.
Result = tuple[Sequence, Drawn | Scores]
# Waits until a step is computed; tells what came of it, for a sequence in the order of its text.
Reading = Callable[[], Rows[Result]]


class StepRunner(Protocol):
    """What computes a step; see :class:`server.engine.runner.Runner`.

    ``is_ahead``: a step may be launched before the one before it is read.
    """

    @property
    def is_ahead(self) -> bool: ...

    def launch(self, chunks: Rows[Chunk]) -> Reading: ...

    def is_usable(self, adapter: Any) -> bool:
        """Compute a few tokens with ``adapter`` alone, while no step is in flight."""

    def timings(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One that is launched, and how to read it."""

    chunks: Rows[Chunk]
    read: Reading


@dataclass(frozen=True, slots=True)
class Abort:
    """Command: end the sequence of ``key``, if it still runs."""

    key: int


class Stop:
    """Command: end everything and the thread."""


Command: TypeAlias = "Sequence | Trial | Abort | Stop"


class EngineLoop:
    """``deliver`` is called on this thread, once for a step in which something happened.

    ``ended`` is called on it too, when it has ended: what it was given and has said no end of gets
    none from it any more.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: StepRunner,
        deliver: Callable[[list[Notice]], None],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._deliver = deliver
        self._ended = ended
        # SimpleQueue.put may be called from a finalizer, in the middle of anything.
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._trials: deque[Trial] = deque()
        self._notices: list[Notice] = []
        self._in_flight: Step | None = None
        self._is_stopping = False
        self._has_ended = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._has_ended

    def start(self) -> None:
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        self._inbox.put(sequence)

    def abort(self, key: int) -> None:
        self._inbox.put(Abort(key))

    def try_out(self, trial: Trial) -> None:
        """Have a new adapter computed alone, between two steps."""
        self._inbox.put(trial)
        if self._has_ended:
            self._refuse_trials()

    def stop(self) -> None:
        self._inbox.put(Stop())

    def join(self) -> None:
        self._thread.join()

    def timings(self) -> Mapping[str, float]:
        """Seconds that the runner's steps took so far, by part. Safe in any thread."""
        return self._runner.timings()

    def check_integrity(self) -> None:
        """Assert that the scheduler's books are right. Only while the engine is idle."""
        self._scheduler.check_integrity()

    # On the thread

    def _main(self) -> None:
        try:
            while not self._is_stopping:
                self._receive()
                self._try_one()
                self._step()
                self._flush()
        except BaseException:
            logger.exception("The engine thread ended.")
            self._flush()
        finally:
            self._has_ended = True
            self._refuse_trials()
            self._ended()

    def _refuse_trials(self) -> None:
        """Let nobody wait for a trial that will not be. In any thread, once this one has ended."""
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                break
            if isinstance(command, Trial):
                self._trials.append(command)
        while self._trials:
            trial = self._trials.popleft()
            if trial.is_usable.set_running_or_notify_cancel():
                trial.is_usable.set_exception(EngineClosed())

    def _receive(self) -> None:
        """Apply the commands that are there; with nothing to do, sleep until one comes."""
        if not (self._scheduler.has_work or self._trials or self._in_flight):
            self._apply(self._inbox.get())
        while True:
            try:
                self._apply(self._inbox.get_nowait())
            except Empty:
                return

    def _apply(self, command: Command) -> None:
        if isinstance(command, Sequence):
            self._scheduler.add(command)
        elif isinstance(command, Trial):
            self._trials.append(command)
        elif isinstance(command, Abort):
            if sequence := self._scheduler.find(command.key):
                self._finish(sequence, "abort")
        else:
            self._is_stopping = True
        if self._is_stopping:
            for sequence in (*self._scheduler.running, *self._scheduler.waiting):
                self._finish(sequence, "abort")

    def _try_one(self) -> None:
        """Compute one new adapter alone; between two of them, those that run get their tokens.

        What is in flight is read first: the next step asks the runner for the tokens of its latest.
        """
        if not self._trials or self._is_stopping:
            return
        self._step(launches=False)
        self._flush()
        trial = self._trials.popleft()
        if not trial.is_usable.set_running_or_notify_cancel():
            return
        try:
            is_usable = self._runner.is_usable(trial.adapter)
        except Exception:
            logger.exception("A new adapter could not be tried.")
            trial.is_usable.set_exception(GenerationFailed(NOT_TRIED))
        else:
            trial.is_usable.set_result(is_usable)

    def _step(self, *, launches: bool = True) -> None:
        """Launch a step, and read it; a runner that is ahead has the one before read instead.

        So such a runner has work while tokens are accepted and the next step is planned. If it
        launches nothing, what is in flight is read all the same.
        """
        try:
            step = self._launch() if launches else None
            if self._runner.is_ahead:
                step, self._in_flight = self._in_flight, step
            if step is None:
                return
            results = step.read()
        except Exception:
            logger.exception("A step failed, and with it the replies that were running.")
            self._abandon()
            self._scheduler.forget_unread()
            self._fail_all(self._scheduler.running, BROKE_OFF)
            return
        self._accept_all(step.chunks, results)

    def _abandon(self) -> None:
        """Wait for what is in flight, whatever comes of it.

        Until then it reads its adapters and what was sent for it. Both go to other uses once its
        replies have failed.
        """
        step, self._in_flight = self._in_flight, None
        with suppress(Exception):
            if step is not None:
                step.read()

    def _launch(self) -> Step | None:
        chunks = self._scheduler.plan()
        if not chunks:
            return None
        read = self._runner.launch(chunks)
        self._scheduler.advance(chunks)
        return Step(chunks, read)

    def _accept_all(self, chunks: Rows[Chunk], results: Rows[Result]) -> None:
        accepted: dict[int, int] = {}
        find, confirm = self._scheduler.find, self._scheduler.confirm
        for sequence, found in results:
            key = sequence.key
            # It may have ended: before what was guessed, or while this step was in flight.
            if find(key) is None:
                continue
            if isinstance(found, Scores):
                sequence.score(found)
            else:
                accepted[key] = accepted.get(key, 0) + 1
                self._accept(sequence, found)
        for chunk in chunks:
            confirm(chunk, accepted.get(chunk.sequence.key, 0) - 1)

    def _accept(self, sequence: Sequence, drawn: Drawn) -> None:
        """Add a drawn token to its reply."""
        if drawn.token is None:
            is_barred = drawn.failure == "none allowed"
            self._fail_all([sequence], NOTHING_ALLOWED if is_barred else NO_NUMBERS)
            return
        if sequence.sampling.prompt_logprobs is not None and not sequence.completion_tokens:
            self._notices.append((sequence.key, sequence.scored_prompt()))
        if not sequence.max_tokens:
            self._finish(sequence, "length")
            return
        try:
            delta, reason = sequence.accept(drawn.token, drawn.logprobs)
        except Exception:
            logger.exception("A reply failed.")
            self._fail_all([sequence], BROKE_OFF)
            return
        self._notices.append((sequence.key, delta))
        if reason is not None:
            self._finish(sequence, reason)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._scheduler.remove(sequence)
        self._notices.append((sequence.key, sequence.finished(reason)))

    def _fail_all(self, sequences: Rows[Sequence], why: str) -> None:
        for sequence in sequences:
            self._scheduler.remove(sequence)
            self._notices.append((sequence.key, GenerationFailed(why)))

    def _flush(self) -> None:
        if self._notices:
            notices, self._notices = self._notices, []
            self._deliver(notices)
