"""What Prometheus reads at ``/metrics``, by model. :mod:`server.monitoring.metered` counts it.

Names follow Prometheus' conventions (prometheus.io/docs/practices/naming): base units, counters in
``_total``. Labels hold names of models that are served, never what a client made up; of how many,
and for how long, is in :mod:`server.monitoring.models`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from server.monitoring.models import MetricModels

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The counters of one server, and in ``now`` what there is at the moment of asking."""

    def __init__(self) -> None:
        disable_created_metrics()  # a further line for every counter, which nobody asked for
        self.registry = CollectorRegistry()
        self.now = CollectorRegistry()
        self.models = MetricModels(self._forget)
        by_model = ["model"]
        self.requests = Counter(
            "lccc_requests",
            "Replies asked for, by how they ended: stop, length, abort, failed, or the refusal.",
            [*by_model, "outcome"],
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "lccc_prompt_tokens",
            "Tokens of prompts, cached ones included.",
            by_model,
            registry=self.registry,
        )
        self.cached_tokens = Counter(
            "lccc_prompt_cached_tokens",
            "Tokens of prompts found in the cache.",
            by_model,
            registry=self.registry,
        )
        self.reply_tokens = Counter(
            "lccc_reply_tokens", "Tokens of replies.", by_model, registry=self.registry
        )
        self.first_token = Histogram(
            "lccc_time_to_first_token_seconds",
            "From a request to its first token, loading and queueing included.",
            by_model,
            buckets=SECONDS,
            registry=self.registry,
        )
        self.gaps = Gaps()
        self.registry.register(self.gaps)
        self.whole = Histogram(
            "lccc_request_duration_seconds",
            "From a request to the end of its reply.",
            by_model,
            buckets=SECONDS,
            registry=self.registry,
        )

    def served(self) -> dict[str, int]:
        """How many replies each model was asked for, whatever came of them."""
        counted: dict[str, int] = {}
        for family in self.requests.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    model = sample.labels["model"]
                    counted[model] = counted.get(model, 0) + int(sample.value)
        return counted

    def text(self) -> bytes:
        """The counters in Prometheus' text format; in any thread, for that may take a while."""
        return generate_latest(self.registry)

    def text_now(self) -> bytes:
        """What there is now, in the same format. On the event loop."""
        return generate_latest(self.now)

    def _forget(self, model: str) -> None:
        for counter in (self.prompt_tokens, self.cached_tokens, self.reply_tokens):
            counter.remove(model)
        for family in self.requests.collect():
            for sample in family.samples:
                if sample.labels["model"] == model:
                    self.requests.remove(model, sample.labels["outcome"])
        self.first_token.remove(model)
        self.whole.remove(model)
        self.gaps.forget(model)


class Gaps(Collector):
    """A histogram by model of what comes with every token: the library's takes ten times as long.

    One thread observes.
    """

    def __init__(self) -> None:
        self._by_model: dict[str, ModelGaps] = {}

    def of(self, model: str) -> ModelGaps:
        """What ``model``'s gaps are counted in."""
        return self._by_model.setdefault(model, ModelGaps())

    def forget(self, model: str) -> None:
        """Count no gaps of ``model`` any more."""
        self._by_model.pop(model, None)

    def collect(self) -> Iterator[Metric]:
        """In any thread, while gaps are observed."""
        family = HistogramMetricFamily(
            "lccc_inter_token_latency_seconds",
            "From a token of a reply to the next.",
            labels=["model"],
        )
        bounds = [*map(floatToGoString, GAPS_S), "+Inf"]
        for model, gaps in list(self._by_model.items()):
            up_to = accumulate(gaps.counts)
            family.add_metric([model], [*zip(bounds, up_to, strict=True)], gaps.total_s)
        yield family


class ModelGaps:
    """How many gaps end at each bound of :data:`GAPS_S`, those that are longer, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(GAPS_S) + 1)
        self.total_s = 0.0

    def observe(self, gap_s: float) -> None:
        """Count one; a bound belongs to what is below it, as Prometheus has it."""
        self.counts[bisect_left(GAPS_S, gap_s)] += 1
        self.total_s += gap_s
