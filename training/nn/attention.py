"""Attention within dialogues: what a pack's dialogues do not share is not computed either.

Under a mask over the whole pack, attention costs the square of the pack's length although nearly
all of it is masked; dialogue by dialogue it costs the sum of their squares. On CPUs that is a call
for each, on GPUs one for all of them (:mod:`training.nn.flash`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from training.errors import RecipeError
from training.nn import flash
from training.nn.packing import Pack
from training.nn.trial import agrees

NAME = "within_dialogues"


def attend_within_dialogues(  # noqa: PLR0913 # transformers' interface
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lengths: Sequence[int] | None = None,
    shared: int = 0,
    spans: flash.Spans | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of dialogues that lie end to end in one row; transformers' interface.

    ``query``: [1, heads, T, width]; ``key`` and ``value``: [1, key heads, T, width]. The first
    ``shared`` of the T tokens are seen by all dialogues, whose ``lengths`` make up the others.
    Returned is [1, T, heads, width]. ``spans`` say the same to a GPU. Without either it is
    transformers' own attention under ``attention_mask``.
    """
    if spans is not None:
        found = flash.attend(
            query, key, value, spans, scale=scaling, dropout=dropout, window=sliding_window
        )
        return found, None
    if lengths is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        given = {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given, **more)
    first, *queries = query.split([shared, *lengths], dim=2)
    first_key, *keys = key.split([shared, *lengths], dim=2)
    first_value, *values = value.split([shared, *lengths], dim=2)
    how = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    parts = [_attend(first, first_key, first_value, sliding_window, how)] if shared else []
    for one_query, one_key, one_value in zip(queries, keys, values, strict=True):
        all_keys = torch.cat((first_key, one_key), dim=2) if shared else one_key
        all_values = torch.cat((first_value, one_value), dim=2) if shared else one_value
        parts.append(_attend(one_query, all_keys, all_values, sliding_window, how))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def implementation(device: torch.device, dtype: torch.dtype) -> str:
    """The ``attn_implementation`` to load a model with, that computes in ``dtype`` on ``device``.

    On GPUs without the flash kernel, a call for every dialogue would cost more than the masked part
    of a pack's square. cuDNN's attention is off in this process (:mod:`training.nn.flash`).
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    if device.type != "cpu" and not takes_flash(device, dtype):
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend_within_dialogues)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


@cache
def takes_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether dialogues are attended to in one call, which is tried once a process."""
    if not flash.is_possible(device, dtype):
        return False
    shared, lengths = 5, (7, 3, 11)
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(1, heads, shared + sum(lengths), 32, generator=generator).to(dtype)
        for heads in (4, 2, 2)
    ]

    def played(where: torch.device, of_type: torch.dtype, **how: Any) -> list[torch.Tensor]:
        own = [one.detach().to(where, of_type).requires_grad_() for one in given]
        query, key, value = own
        found, _ = attend_within_dialogues(torch.nn.Module(), query, key, value, None, **how)
        return [found, *torch.autograd.grad(found.float().square().sum(), own)]

    return agrees(
        "The flash kernel's attention",
        lambda: played(device, dtype, spans=flash.Spans.of(lengths, shared, device)),
        lambda: played(torch.device("cpu"), torch.float32, lengths=lengths, shared=shared),
    )


def arguments(model: Any, pack: Pack, device: torch.device) -> dict[str, Any]:
    """What a forward of ``pack`` takes besides tokens and positions.

    A mask of four dimensions is passed through by transformers, which then builds none itself.

    Raises:
        RecipeError: something is shared, and the model looks back over fewer tokens.
    """
    if model.config._attn_implementation == NAME:  # noqa: SLF001 # transformers has no public name
        unread = torch.empty(1, 1, 1, 1)
        if takes_flash(device, model.dtype):
            if flash.takes_heads(model.config):
                return {
                    "spans": flash.Spans.of(pack.lengths, pack.shared, device),
                    "attention_mask": unread,
                }
        else:
            return {"lengths": pack.lengths, "shared": pack.shared, "attention_mask": unread}
    if not pack.shared:  # positions that restart tell transformers enough
        return {}
    window = getattr(model.config, "sliding_window", None)
    if window is not None and window <= int(pack.position_ids.max()):
        raise RecipeError(
            f"training.share_prefix: this base looks back {window} tokens, fewer than the longest "
            "dialogue has; set training.share_prefix=false."
        )
    return {"attention_mask": block_mask(pack, device)[None, None]}


def block_mask(pack: Pack, device: torch.device) -> torch.Tensor:
    """Who may see whom in ``pack``: [T, T], bool, true where a row's token sees a column's."""
    own = torch.arange(1, len(pack.lengths) + 1, device=device)
    sizes = torch.tensor(pack.lengths, device=device)
    dialogue = torch.cat(
        (torch.zeros(pack.shared, dtype=own.dtype, device=device), own.repeat_interleave(sizes))
    )
    place = torch.arange(pack.tokens, device=device)
    is_before = place[:, None] >= place[None, :]
    return is_before & ((dialogue[None, :] == 0) | (dialogue[:, None] == dialogue[None, :]))


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int | None,
    how: dict[str, Any],
) -> torch.Tensor:
    """Causal attention of the last tokens of ``key``, those that ``query`` is of."""
    many, seen = query.shape[2], key.shape[2]
    if many == seen and (window is None or window >= seen):
        return scaled_dot_product_attention(query, key, value, is_causal=True, **how)
    mask = _mask(many, seen, window)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, **how)


@lru_cache(maxsize=1024)
def _mask(many: int, seen: int, window: int | None) -> torch.Tensor:
    """[many, seen]: the last ``many`` of ``seen`` tokens see those before them, or near enough."""
    distance = torch.arange(seen - many, seen)[:, None] - torch.arange(seen)[None, :]
    return (distance >= 0) & (distance < (window or seen))
