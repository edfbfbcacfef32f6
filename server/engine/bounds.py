"""Which requests the engine takes: one bad row would break a step for all."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

from server.engine.errors import PromptInvalid, PromptTooLong, SamplingInvalid
from server.engine.types import GenerationRequest, SamplingParams

MOST_LOGPROBS: Final = 20
LARGEST_PENALTY: Final = 2.0
LARGEST_BIAS: Final = 100.0
# Logits times or divided by it stay numbers.
LARGEST_REPETITION: Final = 1e6
INT32: Final = 2**31


def refuse_out_of_range(sampling: SamplingParams, vocabulary: int) -> None:
    """``vocabulary``: how many tokens the base has.

    Raises:
        SamplingInvalid: naming the first field that cannot be.
    """
    for name, is_right in _checks(sampling):
        if not is_right:
            raise SamplingInvalid(name, f"{getattr(sampling, name)} is out of range.")
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < vocabulary:
            what = f"token {token} is not in the vocabulary of {vocabulary}."
            raise SamplingInvalid("logit_bias", what)
        if not -LARGEST_BIAS <= bias <= LARGEST_BIAS:
            raise SamplingInvalid("logit_bias", f"{bias} for token {token} is out of range.")
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens:
        what = f"{sampling.min_tokens} is more than max_tokens, {sampling.max_tokens}."
        raise SamplingInvalid("min_tokens", what)


def room_for(request: GenerationRequest, limit: int, vocabulary: int) -> int:
    """How many tokens the reply may have, where prompt and reply have ``limit`` together.

    Raises:
        PromptInvalid, PromptTooLong, SamplingInvalid
    """
    asked, prompt = request.sampling.max_tokens, request.prompt
    if not prompt:
        raise PromptInvalid("The prompt is empty; send at least one token.")
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        raise PromptInvalid(f"A token of the prompt is not in the vocabulary of {vocabulary}.")
    if len(prompt) + (1 if asked is None else asked) > limit:
        raise PromptTooLong(len(prompt), asked, limit)
    room = limit - len(prompt)
    if request.sampling.min_tokens > room:
        what = f"{request.sampling.min_tokens} is more than the context has room for, {room}."
        raise SamplingInvalid("min_tokens", what)
    return room if asked is None else asked


def _checks(sampling: SamplingParams) -> Iterator[tuple[str, bool]]:
    """Field by field, whether its value can be. No comparison holds for NaN."""
    yield "temperature", 0 <= sampling.temperature < inf
    yield "top_p", 0 <= sampling.top_p <= 1
    yield "top_k", 0 <= sampling.top_k < INT32
    yield "min_p", 0 <= sampling.min_p <= 1
    repetition = sampling.repetition_penalty
    yield "repetition_penalty", 1 / LARGEST_REPETITION <= repetition <= LARGEST_REPETITION
    for name in ("presence_penalty", "frequency_penalty"):
        yield name, -LARGEST_PENALTY <= getattr(sampling, name) <= LARGEST_PENALTY
    yield "max_tokens", sampling.max_tokens is None or sampling.max_tokens >= 0
    yield "min_tokens", sampling.min_tokens >= 0
    yield "stop_token_ids", all(0 <= token < INT32 for token in sampling.stop_token_ids)
    for name in ("logprobs", "prompt_logprobs"):
        count = getattr(sampling, name)
        yield name, count is None or 0 <= count <= MOST_LOGPROBS
