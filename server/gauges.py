"""What a server does and has at the moment of asking, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engine.errors import EngineClosed
from server.engine.machine import Memory, gpu_memory, machine_memory, own_bytes
from server.engine.types import Device, Engine


class Gauges(Collector):
    """What an engine does at the moment of asking; nothing while it does not serve."""

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
        blocks = GaugeMetricFamily(
            "lccc_kv_cache_blocks", "Blocks of the KV cache, by use.", labels=["state"]
        )
        free = load.kv_blocks - load.kv_blocks_held - load.kv_blocks_cached
        states = {"held": load.kv_blocks_held, "cached": load.kv_blocks_cached, "free": free}
        for state, count in states.items():
            blocks.add_metric([state], count)
        yield blocks
        resident = GaugeMetricFamily(
            "lccc_adapter_resident", "1 for each adapter in memory.", labels=["model"]
        )
        for card in cards:
            if card.parent is not None and card.digest in load.resident:
                resident.add_metric([card.name], 1)
        yield resident
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
    found = GaugeMetricFamily(name, text, labels=["state"])
    found.add_metric(["used"], memory.used)
    found.add_metric(["free"], memory.total - memory.used)
    return found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
