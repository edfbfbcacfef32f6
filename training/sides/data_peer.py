"""The other side of ``bench data``: the same tokens by ``datasets.map``, as trainers make them.

LLaMA-Factory's steps in their order: ``load_dataset``, a map over single records that gives the
utterances their roles, and a map over batches of a thousand that encodes and masks, whose result
lies in an Arrow file. It encodes a turn a call (``turns``); a quicker variant encodes all texts of
a batch in one call (``batched``). Texts lose their spaces, and nothing else is cleaned.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters.manifest import SEED_SYSTEM_PROMPT
from training.data.token_cache import load_tokenizer
from training.sides.data_own import digest
from training.sides.playing import Measuring, Playing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000
IGNORED = -100
MARK = "\ue000"

Rows = dict[str, list[Any]]


class Words(NamedTuple):
    """What the template writes before and behind a role's text, and before a reply."""

    before: dict[str, str]
    behind: str
    reply: str
    end: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Words:
        """Asked of the template with one message of each role."""
        before, behind = {}, ""
        for role in ("system", "user", "assistant"):
            text = _written(tokenizer, role, reply=False)
            before[role], _, behind = text.rpartition(MARK)
        reply = _written(tokenizer, "user", reply=True).rpartition(MARK)[2].removeprefix(behind)
        end = str(tokenizer.eos_token)
        return cls(before, behind, reply, end)


def _written(tokenizer: PreTrainedTokenizerBase, role: str, *, reply: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            [{"role": role, "content": MARK}],
            add_generation_prompt=reply,
            tokenize=False,
            enable_thinking=False,
        )
    )


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """Roles for utterances, the last one being the assistant's; no spaces."""
    texts = [text.replace(" ", "") for text in row["dialog"]]
    roles = ["assistant", "user"]
    return {
        "messages": [
            {"role": roles[(len(texts) - 1 - at) % 2], "content": text}
            for at, text in enumerate(texts)
        ]
    }


def pieces(messages: list[dict[str, str]], words: Words) -> list[tuple[str, bool]]:
    """The text of a dialogue in turns, each with whether it is learnt."""
    found: list[tuple[str, bool]] = []
    prompt = words.before["system"] + SEED_SYSTEM_PROMPT + words.behind
    for at, message in enumerate(messages):
        role, text = message["role"], message["content"]
        if role == "assistant" and at:
            found += [(prompt + words.reply, False), (text + words.end, True)]
            prompt = words.behind.removeprefix(words.end)
        else:
            prompt += words.before[role] + text + words.behind
    return found


def encoder(
    tokenizer: PreTrainedTokenizerBase, way: str, max_length: int
) -> Callable[[Rows], Rows]:
    """What the second map does with a batch."""
    words = Words.of(tokenizer)

    def encode(texts: list[str]) -> list[list[int]]:
        if way == "batched":
            return list(tokenizer(texts, add_special_tokens=False)["input_ids"])
        return [tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def encoded(rows: Rows) -> Rows:
        dialogues = [pieces(messages, words) for messages in rows["messages"]]
        ids = iter(encode([text for dialogue in dialogues for text, _ in dialogue]))
        made: Rows = {"input_ids": [], "attention_mask": [], "labels": []}
        for dialogue in dialogues:
            tokens: list[int] = []
            labels: list[int] = []
            for _, is_learnt in dialogue:
                piece = next(ids)
                tokens += piece
                labels += piece if is_learnt else [IGNORED] * len(piece)
            made["input_ids"].append(tokens[:max_length])
            made["labels"].append(labels[:max_length])
            made["attention_mask"].append([1] * len(tokens[:max_length]))
        return made

    return encoded


def main(
    base: str, raw: str, warm_up: str, place: str, max_length: str, processes: str, way: str
) -> None:
    """Make all anew in ``place`` in each round, of ``raw``, and in round 0 of ``warm_up``."""
    os.environ["HF_HOME"] = place
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    playing = Playing()
    import datasets

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(Path(base))
    encode = encoder(tokenizer, way, int(max_length))
    many = int(processes) if int(processes) > 1 else None
    playing.ready()
    while (number := playing.next_round()) is not None:
        shutil.rmtree(place, ignore_errors=True)
        measuring = Measuring("cpu", is_family=True)
        file = raw if number else warm_up
        loaded = datasets.load_dataset("json", data_files=file, split="train", cache_dir=place)
        aligned = loaded.map(convert, num_proc=many, remove_columns=loaded.column_names)
        made = aligned.map(
            encode,
            batched=True,
            batch_size=BATCH,
            num_proc=many,
            remove_columns=aligned.column_names,
        )
        spent = measuring.end()
        total = digest(
            (row["input_ids"], [label != IGNORED for label in row["labels"]]) for row in made
        )
        playing.answer(spent | {"facts": {"examples": len(made), "sha256": total}})


if __name__ == "__main__":
    main(*sys.argv[1:])
