"""The text on which exports are compared with what they come from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from training.data.dataset import PreparedDataset
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, Example, encode_dialogue

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DIALOGUES = 64


def probe_dialogues(dataset: PreparedDataset | None) -> list[Dialogue]:
    """Held-out dialogues of ``dataset``, or bundled ones."""
    if dataset is not None:
        for split in ("validation", "test", "train"):
            found = list(islice(dataset.split(split), DIALOGUES))
            if found:
                return found
    from training.pocket.corpus import read_sample

    return [Dialogue(lines) for lines in read_sample("everyday")["test"][:DIALOGUES]]


def probe_examples(
    dialogues: Sequence[Dialogue], tokenizer: PreTrainedTokenizerBase, system: str | None
) -> list[Example]:
    """The dialogues as they would be trained on.

    Raises:
        DataError: the base's template refuses one.
    """
    encoding = Encoding(system, 512)
    return [example for one in dialogues for example in encode_dialogue(tokenizer, one, encoding)]
