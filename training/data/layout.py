"""How dialogues of one form become examples: where their texts stand, and what stands around them.

A form is a number of utterances, with or without roles and a system prompt. What the chat template
writes around the texts is the same for all dialogues of a form (``adapters.template_shape``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adapters.prompt import end_of_turn
from adapters.prompt_batch import BatchRenderer
from adapters.segments import SegmentEncoder
from adapters.template_shape import Shape, TemplateShapes
from training.data.dialogue import Dialogue
from training.data.roles import RolePolicy, conversations

END = 0  # the number of the run that is the end marker alone


class Form(NamedTuple):
    """What the layout of a dialogue depends on."""

    utterances: int
    has_roles: bool
    has_system: bool


class Step(NamedTuple):
    """A text of an example, and the run of tokens before it.

    ``run`` is all that the template writes there, ``begun`` what stands in it before ``lead``: the
    text to which no control token lies between ``lead`` and the message's own. ``message`` is the
    number of that. ``parts_from_han``: a text that begins with a Han character is encoded behind
    ``lead`` as it is by itself. A text that is a target is learnt, with an end marker after it.
    """

    run: int
    begun: int
    lead: str
    parts_from_han: bool
    message: int
    is_target: bool


class Layout(NamedTuple):
    """The examples of a form, conversation by conversation, each as its steps.

    A conversation is one example where what the template writes allows it, else it has one for each
    reply. ``shapes`` must suit the texts.
    """

    conversations: tuple[tuple[tuple[Step, ...], ...], ...]
    shapes: tuple[Shape, ...]


class _Fixed(NamedTuple):
    """A control token, or text between two of them, that the template writes."""

    text: str


class _Said(NamedTuple):
    """The text of a message with what stands before it since the last control token."""

    lead: str
    message: int


_Written = list[_Fixed | _Said]


class Layouts:
    """The layouts for a tokenizer and a policy, and the runs of tokens that they have."""

    def __init__(
        self, renderer: BatchRenderer, segments: SegmentEncoder, roles: RolePolicy
    ) -> None:
        tokenizer = renderer.tokenizer
        self._renderer = renderer
        self._segments = segments
        self._roles = roles
        self._shapes = TemplateShapes(tokenizer)
        end = end_of_turn(tokenizer)
        self._end = _Fixed(tokenizer.convert_ids_to_tokens(end))
        self._made: dict[Form, Layout | None] = {}
        self.runs: list[np.ndarray] = [np.array([end], np.uint32)]

    def of(self, form: Form) -> Layout | None:
        """That of the dialogues of ``form``, ``None`` where the template allows none."""
        if form not in self._made:
            self._made[form] = self._make(form)
        return self._made[form]

    def _make(self, form: Form) -> Layout | None:
        stand_in = Dialogue([""] * form.utterances, None, form.has_roles)
        system = ["system"] if form.has_system else []
        made, shapes = [], []
        for turns in conversations(stand_in, self._roles):
            replies = [at for at, turn in enumerate(turns) if turn.is_reply]
            written: list[_Written] = []
            for at in replies:
                shape = self._shapes.of([*system, *(turn.role for turn in turns[:at])])
                pieces = self._pieces(shape) if shape else None
                if shape is None or pieces is None:
                    return None
                shapes.append(shape)
                written.append(pieces)
            if replies:
                messages = [at + len(system) for at in replies]
                made.append(tuple(self._examples(written, messages)))
        if not made:
            return None
        return Layout(tuple(made), tuple(shape for shape in set(shapes) if shape.questions))

    def _pieces(self, shape: Shape) -> _Written | None:
        """What is encoded by itself; ``None`` if text follows a message without a control token."""
        found: _Written = []
        lead, is_open = "", False
        for part in shape.parts:
            if isinstance(part, int):
                if is_open:
                    return None
                found.append(_Said(lead, part))
                lead, is_open = "", True
                continue
            for piece in self._renderer.cut(part):
                is_control = self._renderer.is_control(piece)
                if is_open and not is_control:
                    return None
                if lead:
                    found.append(_Fixed(lead))
                lead, is_open = "", False
                if is_control:
                    found.append(_Fixed(piece))
                else:
                    lead = piece
        return [*found, _Fixed(lead)] if lead else found

    def _examples(
        self, written: Sequence[_Written], messages: Sequence[int]
    ) -> Iterator[tuple[Step, ...]]:
        *earlier, last = written
        if all(self._goes_on(last, *each) for each in zip(earlier, messages, strict=False)):
            yield self._steps(last, messages)
            return
        for pieces, message in zip(written, messages, strict=True):
            yield self._steps(pieces, [message])

    def _goes_on(self, last: _Written, earlier: _Written, message: int) -> bool:
        """Whether ``last`` is ``earlier``, its reply, and more."""
        *before, lead = earlier
        if not isinstance(lead, _Fixed) or self._renderer.is_control(lead.text):
            before, lead = earlier, _Fixed("")
        expected = [*before, _Said(lead.text, message), self._end]
        return last[: len(expected)] == expected

    def _steps(self, pieces: _Written, targets: Sequence[int]) -> tuple[Step, ...]:
        """Those of a prompt's ``pieces`` and the reply to it, the last of ``targets``."""
        steps: list[Step] = []
        run: list[str] = []
        is_learnt = False
        for piece in pieces:
            if isinstance(piece, _Fixed):
                if not is_learnt:  # a target has its end marker already
                    run.append(piece.text)
                is_learnt = False
                continue
            is_learnt = piece.message in targets
            whole = [*run, piece.lead] if piece.lead else run
            numbers = self._run(whole), self._run(run)
            parts = not piece.lead or self._segments.parts_from_han(piece.lead)
            steps.append(Step(*numbers, piece.lead, parts, piece.message, is_learnt))
            run = []
        number = self._run(run)
        return (*steps, Step(number, number, "", True, targets[-1], True))

    def _run(self, pieces: Sequence[str]) -> int:
        """The number of the run of ``pieces``, each of which is encoded by itself."""
        control = self._renderer.control
        tokens = [
            np.array([control[piece]], np.uint32)
            if piece in control
            else self._segments.encode([piece]).flat
            for piece in pieces
        ]
        self.runs.append(np.concatenate([np.empty(0, np.uint32), *tokens]))
        return len(self.runs) - 1
