"""Qwen's own vocabulary, from a package of its makers, for tests that a stand-in cannot do for.

Qwen1 to Qwen3 share it: 151,643 byte strings by rank. Only the vocabulary is another's; the rest of
a ``tokenizer.json`` follows from it, as the models' cards and transformers' class describe it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.borders import WORD_PATTERNS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ENVIRONMENT = Path(__file__).parents[1] / ".venv-clients"
RANKS = "lib/python3*/site-packages/dashscope/resources/qwen.tiktoken"
# Those behind the vocabulary, in the order of their ids; the first are special.
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
PLAIN = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip


def qwen_tokenizer(chat_template: str) -> PreTrainedTokenizerFast:
    """Qwen3's, but for the template. As :func:`qwen_ranks`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as words
    from transformers import PreTrainedTokenizerFast

    ranks = qwen_ranks()
    tokenizer = Tokenizer(
        models.BPE(
            vocab={_spelled(token): rank for token, rank in ranks.items()},
            merges=[(_spelled(one), _spelled(other)) for one, other in _merges(ranks)],
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    byte_level = words.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = words.Sequence(
        [words.Split(Regex(WORD_PATTERNS[0]), "isolated"), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in SPECIAL])
    tokenizer.add_tokens([AddedToken(each, normalized=False) for each in PLAIN])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
    )


def qwen_ranks() -> dict[bytes, int]:
    """Its tokens, as bytes, by id; the test is skipped where nobody has installed them."""
    for path in ENVIRONMENT.glob(RANKS):
        lines = (line.split() for line in path.read_bytes().splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in lines}
    pytest.skip("needs Qwen's vocabulary: make test-all installs it")


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """What each token was merged of, by rank: the two that its bytes are before it is known."""
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            one, other = _cut(token, ranks)
            yield one, other


def _cut(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    known = ranks[token]
    cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
    possible = [cut for cut in cuts if all(ranks.get(part, known) < known for part in cut)]
    if len(possible) == 1:
        return list(possible[0])
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(one + other, known) for one, other in pairwise(parts)]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _spelled(token: bytes) -> str:
    return "".join(map(_signs().__getitem__, token))


@cache
def _signs() -> dict[int, str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return dict(bytes_to_unicode())
