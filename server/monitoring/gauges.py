"""What an engine does and holds at the moment in which Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engine.errors import EngineClosed
from server.engine.machine import Memory, gpu_memory, machine_memory, own_bytes
from server.engine.types import Device, Engine


class Gauges(Collector):
    """Those of ``engine``; none while it does not serve."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        try:
            load, cards = self._engine.load(), self._engine.models()
        except EngineClosed:
            return
        yield _gauge("lccc_requests_running", "Replies that are being computed.", load.running)
        yield _gauge("lccc_requests_waiting", "Requests that wait for a place.", load.waiting)
        yield _gauge(
            "lccc_waiting_prompt_tokens",
            "Tokens of the prompts that have no reply yet.",
            load.waiting_tokens,
        )
        free = load.kv_blocks - load.kv_blocks_held - load.kv_blocks_cached
        blocks = {"held": load.kv_blocks_held, "cached": load.kv_blocks_cached, "free": free}
        yield _gauges("lccc_kv_cache_blocks", "Blocks of the KV cache, by use.", "state", blocks)
        resident = {
            card.name: 1.0
            for card in cards
            if card.parent is not None and card.digest in load.resident
        }
        text = "1 for each adapter in memory."
        yield _gauges("lccc_adapter_resident", text, "model", resident)
        yield from _machine(self._engine.device)


def _machine(device: Device) -> Iterator[Metric]:
    """What computes, and the memory of it."""
    names = ["device", "name", "weights"]
    about = GaugeMetricFamily("lccc_engine_info", "1, for what the labels say.", labels=names)
    about.add_metric([device.kind, device.name, device.weights], 1)
    yield about
    yield _gauge("process_resident_memory_bytes", "Memory of the server's process.", own_bytes())
    yield _memory("lccc_machine_memory_bytes", "Memory of the machine, by use.", machine_memory())
    if device.kind == "cuda":
        yield _memory("lccc_gpu_memory_bytes", "Memory of the GPU, by use.", gpu_memory())


def _memory(name: str, text: str, memory: Memory) -> Metric:
    return _gauges(name, text, "state", {"used": memory.used, "free": memory.total - memory.used})


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One gauge for each of ``values``, by what ``label`` says."""
    found = GaugeMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        found.add_metric([each], value)
    return found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
