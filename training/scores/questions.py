"""What a model is asked: the last turns of a dataset's dialogues, or lines that somebody wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from jinja2 import TemplateError

from adapters.prompt import render_prompt
from training.data.encode import Encoding, Example, encode_dialogue
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.data.dialogue import Dialogue

PROMPTS_FILE = Path(__file__).with_name("prompts.txt")


class Question(msgspec.Struct, frozen=True):
    """A prompt as token ids, what the user said last, and the reply that the data has to it."""

    prompt: tuple[int, ...]
    text: str
    reference: str = ""


def asked_in(
    dialogues: Iterable[Dialogue],
    tokenizer: PreTrainedTokenizerBase,
    encoding: Encoding,
    many: int,
) -> list[Question]:
    """The last exchange of the first ``many`` dialogues that have one.

    A prompt is, token for token, what training has before that reply.

    Raises:
        DataError: the template refuses a dialogue.
    """
    whole = msgspec.structs.replace(encoding, roles="last-only")
    return [_question(tokenizer, one, whole) for one in with_reply(dialogues, many)]


def with_reply(dialogues: Iterable[Dialogue], many: int) -> Iterator[Dialogue]:
    """The first ``many`` that have a reply."""
    return islice((one for one in dialogues if len(one.utterances) > 1), many)


def _question(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, encoding: Encoding
) -> Question:
    example = encode_dialogue(tokenizer, dialogue, encoding)[-1]
    *_, text, reference = dialogue.utterances
    return Question(tuple(_prompt_of(example)), text, reference)


def _prompt_of(example: Example) -> list[int]:
    """All before the reply that ends the example."""
    return example.ids[: example.is_target.index(True)]


def read_prompts(path: Path) -> list[list[str]]:
    """The conversations in ``path``: one a line, tabs between turns, the user's first and last.

    Empty lines and those that begin with # are passed over.

    Raises:
        DataError: it cannot be read, or a line ends on the assistant's turn.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors begin a file with a BOM
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as UTF-8 text: {error}", file=path) from error
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        turns = [turn.strip() for turn in line.split("\t")]
        if not line.strip() or line.startswith("#"):
            continue
        if not all(turns) or len(turns) % 2 == 0:
            raise DataError(
                f"line {number} has {len(turns)} turns, one of them empty or the last the "
                "assistant's; a conversation ends on the user's turn",
                file=path,
            )
        found.append(turns)
    if not found:
        raise DataError("there is no prompt in it", file=path)
    return found


def asked(turns: Sequence[str], tokenizer: PreTrainedTokenizerBase, system: str | None) -> Question:
    """The question that ``turns``, the user's first and last, come to.

    Raises:
        DataError: the template refuses them.
    """
    messages = [{"role": "system", "content": system}] if system else []
    for index, turn in enumerate(turns):
        messages.append({"role": "assistant" if index % 2 else "user", "content": turn})
    try:
        return Question(tuple(render_prompt(tokenizer, messages)), turns[-1])
    except TemplateError as error:
        raise DataError(f"the base's chat template refuses '{turns[0]}': {error}") from error
