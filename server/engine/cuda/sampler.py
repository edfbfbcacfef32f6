"""Sampling on a GPU: what the kernel needs of every row, always in the same memory."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Rows
from math import isfinite, isnan
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.cuda.records import Records
from server.engine.cuda.step import DRAWN, GREEDY, SKIPPED, WITHHELD, Kernels
from server.engine.cuda.step import Rows as RowSettings
from server.engine.draw import HOTTEST, Draw, Drawn, is_greedy
from server.engine.history import History
from server.engine.sampling.edits import constrain
from server.engine.sampling.logprobs import Logprobs
from server.engine.sampling.reference import result
from server.engine.transfer import to_device
from server.engine.types import SamplingParams, TokenLogprobs

FIELDS = [
    ("numbers", "f8", 7),
    ("kind", "i4", 1),
    ("wholes", "i4", 3 + WITHHELD),
]


class Sampler:
    """Chooses tokens for up to ``rows`` rows of :attr:`logits`, and keeps them in :attr:`drawn`.

    A step calls :meth:`prepare` (or :meth:`goes_on`), writes logits, calls :meth:`choose` (which
    may be part of a graph) and then :meth:`finish`.
    """

    def __init__(self, vocabulary: int, rows: int, kernels: Kernels, device: torch.device) -> None:
        self._device = device
        self._kernels = kernels
        self.logits = torch.zeros((rows, vocabulary), dtype=torch.float32, device=device)
        self.drawn = torch.zeros((rows, 2), dtype=torch.int32, device=device)
        self._seen = Seen(vocabulary, rows, device)
        self._records = Records(FIELDS, rows, device)
        self._rows = RowSettings(**{name: self._records.column(name) for name, _, _ in FIELDS})
        self._fill = Filler()
        self._lines: list[int] = []
        self._draws: Rows[Draw] = ()
        self._asking: list[int] = []  # rows whose logprobs are wanted
        self._has_special = False
        self._beside = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepare(self, draws: Rows[Draw], unread: Rows[int], *, size: int) -> None:
        """Send what the rows need. Of ``size`` rows only ``draws`` are there.

        ``unread``: how many tokens the history of each lacks.
        """
        self._draws = draws
        self._asking = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
        self._has_special = any(map(is_special, draws))
        self._lines = self._seen.lines([draw.history for draw in draws], unread)
        self._send(draws, size, special=False)

    def goes_on(self, uniforms: Rows[float]) -> bool:
        """Prepare the rows of the last step again, of which nothing differs but their numbers.

        Whether that could be done: not behind special rows, whose settings are sent in two parts.
        """
        if self._has_special:
            return False
        if any(uniforms):
            count = len(uniforms)
            records = self._records.again(count)
            records["numbers"][:count, 0] = uniforms
            self._records.send(count)
        return True

    def choose(self, size: int) -> None:
        """Choose for the first ``size`` rows, the special ones apart."""
        self._kernels.choose(self.logits, self._seen.counts, self._rows, self.drawn, size=size)

    def finish(self) -> Callable[[], list[Drawn]]:
        """Choose for the special rows too; returns what waits for all rows and reads them."""
        draws, asking = self._draws, self._asking
        count = len(draws)
        # A copy: the rows are edited next, and the logits of the next step come into their place.
        own = self.logits[to_device(torch.tensor(asking), self._device)] if asking else None
        if self._has_special:
            constrain(self.logits[:count], draws)
            self._send(draws, count, special=True)
            self.choose(count)
        found = self.drawn[:count].to("cpu", non_blocking=True, copy=True)
        done = torch.cuda.Event() if self._beside else None
        if done is not None:
            done.record()

        def read() -> list[Drawn]:
            if done is not None:
                done.synchronize()
            tokens, peaks = found[:, 0].tolist(), found.view(torch.float32)[:, 1].tolist()
            if own is None and all(map(isfinite, peaks)):
                return list(map(Drawn, tokens))
            reports = dict(zip(asking, self._logprobs(own, tokens, draws, asking), strict=True))
            return [
                result(draw, token, peak, reports.get(row))
                for row, (draw, token, peak) in enumerate(zip(draws, tokens, peaks, strict=True))
            ]

        return read

    def _logprobs(
        self, own: torch.Tensor | None, tokens: list[int], draws: Rows[Draw], asking: list[int]
    ) -> list[TokenLogprobs]:
        """Of the rows that ask for them, beside the step that is computed meanwhile."""
        if own is None:
            return []
        wanted = [draws[row].sampling.logprobs or 0 for row in asking]
        with torch.inference_mode(), torch.cuda.stream(self._beside):
            return Logprobs(own).of([tokens[row] for row in asking], wanted)

    def given(self, logits: torch.Tensor, wanted: Rows[tuple[int, int]]) -> list[Drawn]:
        """Logprobs of tokens that are given, from ``logits`` ([rows, vocab] fp32).

        ``wanted``: for each row the token, and how many of the likeliest to report with it.
        """
        tokens, counts = [token for token, _ in wanted], [count for _, count in wanted]
        with torch.inference_mode(), torch.cuda.stream(self._beside):
            found = Logprobs(logits).of(tokens, counts)
        failed = Drawn(None, failure="not finite")
        return [failed if isnan(each.logprob) else Drawn(each.token, each) for each in found]

    def _send(self, draws: Rows[Draw], size: int, *, special: bool) -> None:
        """Send the settings of ``draws``; only rows that are special, or are not, are meant."""
        records = self._records.blank()
        if draws:
            self._fill(records, draws, self._lines, special=special)
        records["kind"][len(draws) : size] = SKIPPED
        self._records.send(size)


def is_special(draw: Draw) -> bool:
    """Whether logits are changed, or copied, before the kernel may see them."""
    return (
        draw.mask is not None
        or draw.bias is not None
        or draw.sampling.logprobs is not None
        or len(draw.withheld) > WITHHELD
    )


class Filler:
    """Writes records of :data:`FIELDS`; remembers what it made of settings that come again."""

    def __init__(self) -> None:
        self._settings = ByIdentity(_settings)
        self._withheld = ByIdentity(_withheld)

    def __call__(
        self, records: NDArray[Any], draws: Rows[Draw], lines: Rows[int], *, special: bool
    ) -> None:
        """Write ``draws``; all are skipped but those that :func:`is_special`, or is not."""
        count = len(draws)
        numbers, wholes = records["numbers"][:count], records["wholes"][:count]
        settings = [self._settings(draw.sampling) for draw in draws]
        numbers[:, 0] = [draw.uniform for draw in draws]
        numbers[:, 1:] = [own for _, _, own in settings]
        wholes[:, 0] = [top_k for _, top_k, _ in settings]
        wholes[:, 1] = lines
        wholes[:, 2:] = [self._withheld(draw.withheld) for draw in draws]
        records["kind"][:count] = [
            kind if is_special(draw) == special else SKIPPED
            for draw, (kind, _, _) in zip(draws, settings, strict=True)
        ]


def _settings(sampling: SamplingParams) -> tuple[int, int, tuple[float, ...]]:
    """Kind, top-k, and the numbers that do not change."""
    numbers = (
        min(sampling.temperature, HOTTEST),
        sampling.top_p,
        sampling.min_p,
        # Penalties are fp32 in all samplers.
        float(np.float32(sampling.repetition_penalty)),
        float(np.float32(sampling.frequency_penalty)),
        float(np.float32(sampling.presence_penalty)),
    )
    return GREEDY if is_greedy(sampling) else DRAWN, sampling.top_k, numbers


def _withheld(ids: array[int]) -> tuple[int, ...]:
    """How many, and which; none where there are more than have room."""
    few = ids.tolist() if len(ids) <= WITHHELD else []
    return (len(few), *few, *[0] * (WITHHELD - len(few)))


Key = TypeVar("Key")
Value = TypeVar("Value")


class ByIdentity(Generic[Key, Value]):
    """What ``make`` made of objects, for as long as they may come again."""

    most = 4096

    def __init__(self, make: Callable[[Key], Value]) -> None:
        self._make = make
        self._made: dict[int, tuple[Key, Value]] = {}

    def __call__(self, key: Key) -> Value:
        known = self._made.get(id(key))
        if known is None:
            if len(self._made) >= self.most:
                self._made.clear()
            known = self._made[id(key)] = key, self._make(key)  # kept: its id stays its own
        return known[1]


class Seen:
    """:attr:`counts`: [lines, vocab] int32, what histories say, for the replies that have one.

    The kernel counts what it draws, so a line is written once, when its reply begins or returns.
    A new history takes the line that was longest unused; there are enough for those of one step.
    """

    def __init__(self, vocabulary: int, lines: int, device: torch.device) -> None:
        self.counts = torch.zeros((lines, vocabulary), dtype=torch.int32, device=device)
        # By history, the line and how many tokens of a reply it counts; unused ones by number.
        self._lines: OrderedDict[History | int | None, tuple[int, int]] = OrderedDict(
            (number, (number, 0)) for number in range(lines)
        )

    def lines(self, histories: Rows[History | None], unread: Rows[int]) -> list[int]:
        """Which line has each of ``histories`` and ``unread`` tokens more; -1 for none.

        The next draw will be counted in it.
        """
        for history in histories:
            if history in self._lines:
                self._lines.move_to_end(history)
        return [
            -1 if history is None else self._line(history, more)
            for history, more in zip(histories, unread, strict=True)
        ]

    def _line(self, history: History, unread: int) -> int:
        length = history.length + unread
        line, counted = self._lines.pop(history, (-1, -1))
        if line < 0:
            _, (line, _) = self._lines.popitem(last=False)
        if counted != length:
            assert not unread, "a line was lost while a token was in flight"
            self._write(line, history)
        self._lines[history] = line, length + 1
        return line

    def _write(self, line: int, history: History) -> None:
        device = self.counts.device
        ids = to_device(torch.from_numpy(np.asarray(history.ids, dtype=np.int64)), device)
        counts = to_device(torch.from_numpy(np.asarray(history.counts, dtype=np.int32)), device)
        self.counts[line].zero_()
        self.counts[line, ids] = counts + 1
