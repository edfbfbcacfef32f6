"""The base `pocket`: a small real chat model, built on this machine from the bundled dialogues.

It has Qwen3's architecture, a byte-level BPE tokenizer with ChatML's control tokens, and passes
through every code path of Qwen3-0.6B: loader, NF4, LoRA targets, chat template. For machines
without a network, for demonstrations and for tests. The same seed on the same machine gives the
same weights.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.manifest import SEED_SYSTEM_PROMPT
from training.pocket.corpus import TEXTS, Corpus, Dialogues, Row, read_sample
from training.pocket.grammar import Grammar, read_grammar, vary
from training.replacement import replacing
from training.stages import OnNotedProgress, unheard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = Path(__file__).with_name("chatml.jinja")
UNIT_WEIGHT = 2000  # above the count of any word in the corpus


@dataclass(frozen=True)
class PocketShape:
    """Size and schedule. ``tokens_per_step`` and ``steps`` set the time that building takes."""

    vocab_size: int = 2000
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    context_length: int = 2048
    steps: int = 1200
    tokens_per_step: int = 512
    learning_rate: float = 4e-3
    seed: int = 0


def build_pocket(
    directory: Path, shape: PocketShape | None = None, on_progress: OnNotedProgress = unheard
) -> Path:
    """Build the base into ``directory``; an older one is replaced once the new one is whole.

    ``on_progress`` gets (steps done, steps in all, a note).
    """
    shape = shape or PocketShape()
    everyday, grammar = read_sample("everyday")["train"], read_grammar()
    tokenizer = build_tokenizer(shape, everyday, grammar)
    model = build_model(shape, tokenizer)
    fit(model, tokenizer, shape, everyday, grammar, on_progress)
    with replacing(directory) as staged:
        _save(model, tokenizer, staged)
    return directory


def build_tokenizer(
    shape: PocketShape, dialogues: Dialogues, grammar: Grammar
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the varied dialogues; every byte is a token, so any text encodes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=10,  # bytes: words of up to three characters, no whole sentences
        show_progress=False,
    )
    texts = _tokenizer_texts(dialogues, grammar, random.Random(shape.seed))  # noqa: S311 # no secret
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 # a token of text
        pad_token="<|endoftext|>",  # noqa: S106 # same
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
        model_max_length=shape.context_length,
    )


def _tokenizer_texts(dialogues: Dialogues, grammar: Grammar, rng: random.Random) -> Iterator[str]:
    """Varied lines, the samples' lines, and every character and role name by itself.

    The latter weigh so much that each becomes a token of its own before any word does.
    """
    for dialogue in dialogues:
        for _ in range(4):
            yield from vary(dialogue, grammar, rng)
    lines = [SEED_SYSTEM_PROMPT]
    for name in TEXTS:
        lines += [line for dialogue in read_sample(name)["train"] for line in dialogue]
    yield from lines
    said = [line for dialogue in dialogues for line in dialogue]
    for unit in ("user", "assistant", "system", *sorted(set("".join(lines + said)))):
        yield "\n".join([unit] * UNIT_WEIGHT)  # a line is a word; one text is read sooner than many


def build_model(shape: PocketShape, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3 with random weights of deviation ``hidden_size ** -0.5``.

    With the usual 0.02 a model this narrow needs 1.6 times the steps to the same loss
    (BENCHMARKS.md).
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(shape.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            max_position_embeddings=shape.context_length,
            rope_theta=10000.0,
            tie_word_embeddings=True,
            initializer_range=shape.hidden_size**-0.5,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )


def fit(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    shape: PocketShape,
    dialogues: Dialogues,
    grammar: Grammar,
    on_progress: OnNotedProgress,
) -> None:
    """Train on varied dialogues: AdamW, warm-up, a constant half, then linear decay."""
    import torch

    optimizer = torch.optim.AdamW(
        _decayed(model), lr=shape.learning_rate, betas=(0.9, 0.95), fused=True
    )
    corpus = Corpus(tokenizer, dialogues, grammar, random.Random(shape.seed + 1))  # noqa: S311 # no secret
    model.train()
    batches = islice(corpus.batches(shape.tokens_per_step), shape.steps)
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = shape.learning_rate * _schedule(step, shape.steps)
        loss = _loss(model, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0 or step + 1 == shape.steps:
            on_progress(step + 1, shape.steps, f"loss {loss.item():.2f}")
    model.eval()


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 30)
    return warm * min(1.0, 2 * (1 - step / steps) + 0.02)


def _decayed(model: Any) -> list[dict[str, Any]]:
    """Weight decay for the matrices, none for norms and the embedding."""
    matrices: list[Any] = []
    rest: list[Any] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.dim() > 1 and "embed" not in name else rest).append(parameter)
    return [
        {"params": matrices, "weight_decay": 0.1},
        {"params": rest, "weight_decay": 0.0},
    ]


def _loss(model: Qwen3ForCausalLM, rows: Sequence[Row]) -> Any:
    """The weighted mean loss over right-padded rows; causality hides the padding."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weights[index, : len(row.ids) - 1] = torch.tensor(row.weights[1:])
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    predicting = weights > 0
    losses = cross_entropy(
        model.lm_head(hidden[predicting]), ids.roll(-1, 1)[predicting], reduction="none"
    )
    weighted = losses * weights[predicting]
    return weighted.sum() / weights.sum()


def _save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    from transformers.utils import logging as transformers_logging

    model.generation_config.update(
        do_sample=True, temperature=0.3, top_p=0.8, eos_token_id=tokenizer.eos_token_id
    )
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model.save_pretrained(directory)
    finally:
        if had_bars:
            transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(directory)
    logging.getLogger(__name__).info("pocket saved to %s", directory)
