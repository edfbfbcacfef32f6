"""By which models figures are kept: a server may have thousands of adapters, and run for months."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

# A histogram has fifteen lines, which Prometheus reads every few seconds and keeps for weeks.
MOST_DETAILED = 64
OTHERS = "(others)"  # what no adapter can be called
FORGOTTEN_AFTER_S = 3600.0


class MetricModels:
    """The models that were asked for.

    The first :data:`MOST_DETAILED` have histograms of their own, and all others have one together.
    ``forget`` is called with one that has not been served for :data:`FORGOTTEN_AFTER_S`.
    """

    def __init__(
        self, forget: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._forget = forget
        self._clock = clock
        self._known: set[str] = set()
        self._detailed: set[str] = set()
        self._gone_s: dict[str, float] = {}  # since when it was seen that they are not served

    def meet(self, model: str, served: Callable[[], Collection[str]]) -> None:
        """Note that ``model`` is asked for; a new one is the time to look which are ``served``."""
        if model in self._known:
            return
        self.review(served())
        self._known.add(model)
        if len(self._detailed) < MOST_DETAILED:
            self._detailed.add(model)

    def label(self, model: str) -> str:
        """What the histograms of ``model`` are labelled with."""
        return model if model in self._detailed else OTHERS

    def review(self, served: Collection[str]) -> None:
        """Forget those that are no longer among the ``served``, and were not for a while."""
        now_s = self._clock()
        gone = self._known.difference(served)
        self._gone_s = {model: self._gone_s.get(model, now_s) for model in gone}
        for model, since_s in list(self._gone_s.items()):
            if now_s - since_s >= FORGOTTEN_AFTER_S:
                del self._gone_s[model]
                self._known.discard(model)
                self._detailed.discard(model)
                self._forget(model)
