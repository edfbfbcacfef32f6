"""How far two models agree on given text: the check that stands behind every export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import torch

from training.data.encode import Example
from training.nn.model import target_logits
from training.nn.packing import packs
from training.stages import OnProgress

TOKENS_PER_FORWARD = 512


class Agreement(msgspec.Struct, frozen=True):
    """Over ``tokens`` of replies: how far the ``candidate`` is from the ``reference``.

    ``mean_kl`` and ``largest_kl`` are KL(reference || candidate) of the next token, in nats;
    ``largest_logit_difference`` is absolute, ``same_choice`` the share of tokens at which both
    find the same one likeliest. Perplexities are per character of the replies.
    """

    tokens: int
    characters: int
    mean_kl: float
    largest_kl: float
    largest_logit_difference: float
    same_choice: float
    reference_perplexity: float
    candidate_perplexity: float


@torch.no_grad()
def agreement(
    reference: Any,
    candidate: Any,
    examples: Sequence[Example],
    on_progress: OnProgress,
) -> Agreement:
    """Compare the logits of two models of transformers at every target token of ``examples``.

    ``on_progress`` gets (examples done, examples in all).
    """
    tokens = same = done = 0
    kl_sum = kl_most = logit_most = 0.0
    nats = [0.0, 0.0]
    for pack in packs(examples, TOKENS_PER_FORWARD):
        wanted, found = target_logits(reference, pack), target_logits(candidate, pack)
        log_wanted, log_found = wanted.double().log_softmax(-1), found.double().log_softmax(-1)
        divergence = (log_wanted.exp() * (log_wanted - log_found)).sum(-1)
        kl_sum += divergence.sum().item()
        kl_most = max(kl_most, divergence.max().item())
        logit_most = max(logit_most, (wanted - found).abs().max().item())
        same += int((wanted.argmax(-1) == found.argmax(-1)).sum())
        for index, logs in enumerate((log_wanted, log_found)):
            nats[index] -= logs.gather(1, pack.targets.to(logs.device)[:, None]).sum().item()
        tokens += len(pack.targets)
        done += len(pack.lengths)
        on_progress(done, len(examples))
    characters = sum(example.characters for example in examples)
    return Agreement(
        tokens=tokens,
        characters=characters,
        mean_kl=max(0.0, kl_sum / tokens),
        largest_kl=kl_most,
        largest_logit_difference=logit_most,
        same_choice=same / tokens,
        reference_perplexity=math.exp(min(700.0, nats[0] / characters)),
        candidate_perplexity=math.exp(min(700.0, nats[1] / characters)),
    )
