"""Sampling on a GPU: what the kernel needs of every row, always in the same memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Rows
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.cuda.records import Records
from server.engine.cuda.step import DRAWN, GREEDY, SKIPPED, WITHHELD, Kernels
from server.engine.cuda.step import Rows as RowSettings
from server.engine.draw import Draw, Drawn
from server.engine.history import History
from server.engine.sampling.edits import constrain
from server.engine.sampling.logprobs import Logprobs
from server.engine.sampling.reference import result
from server.engine.transfer import to_device
from server.engine.types import TokenLogprobs

FIELDS = [
    ("numbers", "f8", 7),
    ("kind", "i4", 1),
    ("wholes", "i4", 3 + WITHHELD),
]


class Sampler:
    """Chooses tokens for up to ``rows`` rows of :attr:`logits`, and keeps them in :attr:`drawn`.

    A step calls :meth:`prepare`, writes logits, calls :meth:`choose` (which may be part of a
    graph) and then :meth:`finish`.
    """

    def __init__(self, vocabulary: int, rows: int, kernels: Kernels, device: torch.device) -> None:
        self._device = device
        self._kernels = kernels
        self.logits = torch.zeros((rows, vocabulary), dtype=torch.float32, device=device)
        self.drawn = torch.zeros((rows, 2), dtype=torch.int32, device=device)
        self._seen = Seen(vocabulary, rows, device)
        self._records = Records(FIELDS, rows, device)
        self._rows = RowSettings(**{name: self._records.column(name) for name, _, _ in FIELDS})
        self._lines: list[int] = []
        self._beside = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepare(self, draws: Rows[Draw], unread: Rows[int], *, size: int) -> None:
        """Send what the rows need. Of ``size`` rows only ``draws`` are there.

        ``unread``: how many tokens the history of each lacks.
        """
        self._lines = self._seen.lines([draw.history for draw in draws], unread)
        self._send(draws, [not is_special(draw) for draw in draws], size)

    def choose(self, size: int) -> None:
        """Choose for the first ``size`` rows, the special ones apart."""
        self._kernels.choose(self.logits, self._seen.counts, self._rows, self.drawn, size=size)

    def finish(self, draws: Rows[Draw]) -> Callable[[], list[Drawn]]:
        """Choose for the special rows too; returns what waits for all rows and reads them."""
        count = len(draws)
        asking = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
        # A copy: the rows are edited next, and the logits of the next step come into their place.
        own = self.logits[to_device(torch.tensor(asking), self._device)] if asking else None
        specials = [is_special(draw) for draw in draws]
        if any(specials):
            constrain(self.logits[:count], draws)
            self._send(draws, specials, count)
            self.choose(count)
        found = self.drawn[:count].to("cpu", non_blocking=True, copy=True)
        done = torch.cuda.Event() if self._beside else None
        if done is not None:
            done.record()

        def read() -> list[Drawn]:
            if done is not None:
                done.synchronize()
            tokens, peaks = found[:, 0].tolist(), found.view(torch.float32)[:, 1].tolist()
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

    def _send(self, draws: Rows[Draw], is_meant: Rows[bool], size: int) -> None:
        records = self._records.blank()
        if draws:
            fill(records, draws, self._lines, is_meant)
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


def fill(records: NDArray[Any], draws: Rows[Draw], lines: Rows[int], is_meant: Rows[bool]) -> None:
    """Write ``draws`` into records of :data:`FIELDS`; those that are not meant are skipped."""
    count = len(draws)
    settings = [draw.sampling for draw in draws]
    records["numbers"][:count] = [
        (
            draw.uniform,
            draw.temperature,
            one.top_p,
            one.min_p,
            one.repetition_penalty,
            one.frequency_penalty,
            one.presence_penalty,
        )
        for draw, one in zip(draws, settings, strict=True)
    ]
    # Penalties are fp32 in all samplers.
    records["numbers"][:count, 4:] = records["numbers"][:count, 4:].astype(np.float32)
    records["kind"][:count] = [
        (GREEDY if draw.is_greedy else DRAWN) if meant else SKIPPED
        for draw, meant in zip(draws, is_meant, strict=True)
    ]
    wholes = records["wholes"]
    wholes[:count, 0] = [one.top_k for one in settings]
    wholes[:count, 1] = lines
    for row, draw in enumerate(draws):
        few = draw.withheld if len(draw.withheld) <= WITHHELD else draw.withheld[:0]
        wholes[row, 2] = len(few)
        if few:
            wholes[row, 3 : 3 + len(few)] = few


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
