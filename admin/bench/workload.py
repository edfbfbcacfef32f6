"""What is asked of a server: how much at once, how long, and prompts that no cache has seen."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from admin.bench.errors import BenchFailed

Message = dict[str, str]
CountTokens = Callable[[Sequence[Message]], int]

_TRIES = 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A load. Lengths are in tokens; ``prompt_tokens`` is the whole prompt, template included.

    With ``range_ratio`` r, from 0 to below 1, the lengths of each request are drawn from all
    between ``1 - r`` and ``1 + r`` times those, as vLLM's benchmark does.

    The first ``shared_prefix_tokens`` of what the user says are the same in every request; all
    else differs in each, and depends on ``seed``, the round and the request's number alone.
    """

    concurrency: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    shared_prefix_tokens: int = 0
    range_ratio: float = 0.0
    seed: int = 0

    def lengths(self, round_number: int, index: int) -> tuple[int, int]:
        """Tokens of prompt and reply that request ``index`` of a round has."""
        rng = random.Random(f"{self.seed} {round_number} {index} lengths")  # noqa: S311 # no secret
        return (
            rng.randint(*self._between(self.prompt_tokens)),
            rng.randint(*self._between(self.output_tokens)),
        )

    @property
    def longest(self) -> int:
        """The most tokens that prompt and reply may have together."""
        return sum(self._between(length)[1] for length in (self.prompt_tokens, self.output_tokens))

    def _between(self, length: int) -> tuple[int, int]:
        part = self.range_ratio * length
        return max(1, math.ceil(length - part)), math.floor(length + part)


def one_message(text: str) -> list[Message]:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Prompter:
    """Writes the prompts of ``workload``: random common Chinese characters.

    With ``count`` their length in tokens is exact; without, each character is taken for a token,
    and the server's usage says what it came to.
    """

    workload: Workload
    count: CountTokens | None = None
    _lengths: dict[str, int] = field(default_factory=dict, repr=False)

    def messages(self, round_number: int, index: int) -> list[Message]:
        """The conversation that request ``index`` of a round sends.

        Raises:
            BenchFailed: the template alone is longer than the prompt should be.
        """
        load = self.workload
        length, _ = load.lengths(round_number, index)
        wanted = length - self.overhead
        if wanted < max(1, load.shared_prefix_tokens):
            least = self.overhead + max(1, load.shared_prefix_tokens)
            raise BenchFailed(
                f"--prompt-tokens {length} leaves no room for text of its own: "
                f"chat template and shared prefix need {least}."
            )
        shared = self.text(load.shared_prefix_tokens, f"{load.seed} shared")
        return one_message(self.text(wanted, f"{load.seed} {round_number} {index}", shared))

    @property
    def overhead(self) -> int:
        """Tokens that the template puts around a user's only message."""
        if self.count is None:
            return 0
        if "" not in self._lengths:
            self._lengths[""] = self.count(one_message(""))
        return self._lengths[""]

    def text(self, tokens: int, seed: str, opening: str = "") -> str:
        """Characters of ``tokens`` tokens that begin with ``opening``; decided by the arguments."""
        rng = random.Random(seed)  # noqa: S311 # no secret
        drawn = "".join(rng.choices(common_han(), k=max(0, tokens - len(opening))))
        if self.count is None:
            return opening + drawn
        for _ in range(_TRIES):
            found = self.count(one_message(opening + drawn)) - self.overhead
            if found == tokens:
                break
            drawn = _nearer(rng, drawn, tokens - found, found / max(1, len(opening + drawn)))
        return opening + drawn


def _nearer(rng: random.Random, text: str, missing: int, tokens_a_character: float) -> str:
    """``text`` with about ``missing`` more tokens, or fewer where that is negative."""
    characters = missing / max(tokens_a_character, 0.1)
    if missing < 0:
        return text[: math.floor(characters)]
    if characters >= 1:
        return text + "".join(rng.choices(common_han(), k=int(characters)))
    return text + "".join(rng.choices(string.digits, k=missing))


@cache
def common_han() -> str:
    """The 3,755 characters of level 1 of GB 2312, which make up nearly all modern text."""
    from training.synthetic.tokenizer import han

    signs, common = 682, 3755
    return "".join(list(han())[signs : signs + common])
