"""What cannot be made of a run's record."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.errors import LcccError


class RecordError(LcccError):
    """A command on runs could not do what it was asked; the message says what to do next."""


class NothingToPlot(RecordError):
    """None of the runs has measured the quantity."""

    def __init__(self, quantity: str, runs: Sequence[str]) -> None:
        super().__init__(
            f"There is nothing to plot: no {quantity} has been measured in {', '.join(runs)}."
        )


class ChartLibraryMissing(RecordError):
    """PNG is drawn by matplotlib, which is optional."""

    def __init__(self) -> None:
        super().__init__(
            "PNG needs matplotlib, which is not installed: pip install matplotlib. "
            "Files that end in .svg or .html need nothing."
        )
