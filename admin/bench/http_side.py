"""A server over HTTP as one side of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from admin.bench.http_client import HttpClient, full_length
from admin.bench.load import WARM_UP_ROUND, closed_loop, must_have_worked
from admin.bench.timeline import Round, Timeline
from admin.bench.workload import CountTokens, Prompter, Workload, one_message


@dataclass(frozen=True, kw_only=True)
class HttpSide:
    """Requests of ``prompter.workload``, with ``models`` and ``extra`` bodies taken in turn.

    A field of an extra body that is null takes that field out of the request, for servers that
    refuse what they do not know.
    """

    client: HttpClient
    models: Sequence[str]
    prompter: Prompter
    extra: Sequence[Mapping[str, Any]] = field(default=({},))
    temperature: float = 0.0

    @property
    def workload(self) -> Workload:
        return self.prompter.workload

    async def warm_up(self, count: int) -> None:
        """Send ``count`` requests that are not measured.

        Raises:
            BenchFailed: one of them failed, so that nothing is to be measured here.
        """
        must_have_worked(await self.play(WARM_UP_ROUND, count), self.client.url)

    async def play(self, number: int, count: int | None = None) -> Round:
        """Make round ``number``, of ``count`` requests where not all are meant."""
        jobs = [
            self.request(number, index)
            for index in range(self.workload.requests if count is None else count)
        ]
        played = await closed_loop(jobs, self.workload.concurrency, self._send)
        return replace(played, timelines=tuple(map(self._recounted, played.timelines)))

    def request(self, number: int, index: int) -> tuple[str, dict[str, Any]]:
        """Model and body of request ``index`` of round ``number``."""
        _, length = self.workload.lengths(number, index)
        body = full_length(self.prompter.messages(number, index), length, self.temperature)
        body |= self.extra[index % len(self.extra)]
        kept = {name: value for name, value in body.items() if value is not None}
        return self.models[index % len(self.models)], kept

    async def _send(self, job: tuple[str, dict[str, Any]]) -> Timeline:
        model, body = job
        timeline = await self.client.chat(model, body)
        return replace(timeline, asked_tokens=body.get("max_tokens") or 0)

    def _recounted(self, timeline: Timeline) -> Timeline:
        """With the tokens that the tokenizer finds, where the server did not count them."""
        count = self.prompter.count
        if timeline.counted == "usage" or timeline.failure is not None or count is None:
            return timeline
        tokens = text_tokens(timeline.text, count)
        return replace(timeline, output_tokens=tokens, counted="tokenizer")


def text_tokens(text: str, count: CountTokens) -> int:
    """Tokens of ``text`` by itself."""
    return count(one_message(text)) - count(one_message(""))
