"""What is recorded of a prepared dataset: where it came from, what was done to it, what it is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from training.data.report import CleaningReport
from training.data.rules import Rules
from training.errors import DataError

MANIFEST_FILE = "manifest.json"

# The width of the classes in ``SplitCounts.lengths``.
LENGTH_CLASS_CHARACTERS = 5


class InputRef(msgspec.Struct, frozen=True):
    """A raw file: size in bytes, hex SHA-256, and whether its text was pre-spaced.

    ``given_as`` is ``validation`` or ``test`` where the file was named for that split.
    """

    name: str
    size: int
    sha256: str
    pre_spaced: bool
    given_as: str | None = None


class SplitCounts(msgspec.Struct, frozen=True):
    """The size of a split. ``sha256`` is over its dialogues in order.

    ``lengths`` is a histogram of characters per dialogue: the lower bound of a class of
    :data:`LENGTH_CLASS_CHARACTERS`, and how many dialogues it holds.
    """

    dialogues: int
    utterances: int
    characters: int
    sha256: str
    lengths: dict[int, int]


class DatasetManifest(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-dataset/2"):
    """Everything about a dataset but its dialogues.

    ``sha256`` is over the prepared dialogues split by split and nothing else: equal content has
    equal hashes, wherever, whenever and under whatever name it was prepared. ``created`` is in
    UTC, ISO 8601. ``drawn`` names the splits that were drawn by share instead of given.
    ``word_lists`` has the hex SHA-256 of each list by the rule that used it.
    """

    name: str
    inputs: tuple[InputRef, ...]
    splits: dict[str, SplitCounts]
    cleaning: CleaningReport
    rules: Rules
    word_lists: dict[str, str]
    seed: int
    validation_share: float
    test_share: float
    drawn: tuple[str, ...]
    sha256: str
    created: str

    @property
    def dialogues(self) -> int:
        """Over all splits."""
        return sum(counts.dialogues for counts in self.splits.values())

    @property
    def characters(self) -> int:
        """Over all splits."""
        return sum(counts.characters for counts in self.splits.values())

    def write(self, directory: Path) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(self), indent=2)
        (directory / MANIFEST_FILE).write_bytes(encoded + b"\n")


def read_manifest(directory: Path) -> DatasetManifest:
    """The manifest of the dataset in ``directory``.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is damaged or of another format.
    """
    path = directory / MANIFEST_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"no dataset manifest of this version ({error}); prepare the dataset again", file=path
        ) from error
