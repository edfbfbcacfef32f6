"""Replies of a model that transformers holds: the likeliest token each time.

It is not the server's engine, because a training cannot import that and has its model in memory
already. It is not transformers' ``generate`` either, which takes penalties and temperatures from
the base's own configuration. The tests hold all of them to the same tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adapters.base import Base
from adapters.generation_config import read_generation_config
from adapters.prompt import end_of_turn
from training.stages import OnProgress, unheard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS = 16


class Reply(NamedTuple):
    """Token ids without the one that ended them; ``is_finished``: one did, before the limit."""

    ids: tuple[int, ...]
    is_finished: bool


def end_tokens(base: Base, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What ends a reply: the base's ``eos_token_id`` and the tokenizer's own."""
    configured = read_generation_config(base.path).get("eos_token_id")
    listed = configured if isinstance(configured, list) else [configured]
    own = [token for token in listed if isinstance(token, int)]
    return frozenset([*own, end_of_turn(tokenizer)])


def greedy(
    model: Any,
    prompts: Sequence[Sequence[int]],
    ends: Collection[int],
    max_tokens: int,
    on_progress: OnProgress = unheard,
    rows: int = ROWS,
) -> list[Reply]:
    """What ``model`` (of transformers, LoRA in place) says to each of ``prompts`` (token ids).

    Up to ``rows`` prompts of similar length go through it together, padded on the left. In fp32
    that changes no token unless two are equally likely to six digits. ``on_progress`` gets
    (replies done, replies in all). Leaves the model in the mode that it was in, and draws nothing.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, Reply] = {}
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(by_length), rows):
            chosen = by_length[start : start + rows]
            replies = _together(model, [prompts[index] for index in chosen], ends, max_tokens)
            found |= zip(chosen, replies, strict=True)
            on_progress(len(found), len(prompts))
    finally:
        model.train(was_training)
    return [found[index] for index in range(len(prompts))]


@torch.no_grad()
def _together(
    model: Any, prompts: Sequence[Sequence[int]], ends: Collection[int], max_tokens: int
) -> list[Reply]:
    """One batch to its end."""
    said: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    for tokens in _steps(model, prompts, max_tokens):
        for row in sorted(running):
            if tokens[row] in ends:
                running.remove(row)
            else:
                said[row].append(tokens[row])
        if not running:
            break
    return [Reply(tuple(ids), row not in running) for row, ids in enumerate(said)]


def _steps(model: Any, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[int]]:
    """The next token of every row, again and again."""
    device = model.get_input_embeddings().weight.device
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]
    tokens = torch.tensor(
        [[0] * gap + list(prompt) for gap, prompt in zip(gaps, prompts, strict=True)], device=device
    )
    mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = None
    for _ in range(max_tokens):
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        tokens = out.logits[:, -1].argmax(-1, keepdim=True)
        yield tokens[:, 0].tolist()
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = positions[:, -1:] + 1
