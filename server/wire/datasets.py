"""``/admin/datasets`` and ``/admin/uploads``: dialogues that trainings are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from server.wire.names import FILE_NAME
from server.wire.parameters import Inbound
from server.wire.runs import DatasetName, Overrides

FileName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=80,
        description="A plain file name, without directories.",
        pattern=FILE_NAME,
    ),
]
Share = Annotated[float, Meta(ge=0, lt=1)]


class UploadRequest(Inbound, frozen=True, kw_only=True):
    """A file that will be sent in pieces; ``size`` is in bytes."""

    name: FileName
    size: Annotated[int, Meta(ge=1, le=2**40)]


class UploadCard(Struct, frozen=True, kw_only=True):
    """A file that is being sent: so many bytes of ``size`` are here."""

    id: str
    name: str
    size: int
    received: int


class PrepareRequest(Inbound, frozen=True, kw_only=True):
    """What `lccc-admin data prepare` is told. ``upload`` is a file that was sent whole.

    ``overrides`` are changed cleaning rules as `--set` takes them.
    """

    name: DatasetName
    upload: Annotated[str, Meta(min_length=1, max_length=64)]
    rules: Literal["default", "lccc"] = "default"
    overrides: Overrides = field(default_factory=dict)
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    valid_share: Share = 0.01
    test_share: Share = 0.01
    overwrite: bool = False


class DatasetInput(Struct, frozen=True, kw_only=True):
    """A raw file: size in bytes, hex SHA-256, and whether its text was pre-spaced."""

    name: str
    size: int
    sha256: str
    pre_spaced: bool


class SplitCard(Struct, frozen=True, kw_only=True):
    """How much a split holds. ``lengths`` counts dialogues by class of characters."""

    dialogues: int
    utterances: int
    characters: int
    lengths: dict[int, int]


class RuleSample(Struct, frozen=True, kw_only=True):
    """A text before and after a rule; null after where it was dropped."""

    before: str
    after: str | None


class RuleCard(Struct, frozen=True, kw_only=True):
    """A cleaning rule and what came of it."""

    name: str
    description: str
    is_on: bool
    utterances_changed: int
    utterances_dropped: int
    dialogues_dropped: int
    examples: list[RuleSample]


class CleaningCard(Struct, frozen=True, kw_only=True):
    """What came of the dialogues that were read. ``changed`` counts kept ones."""

    version: int
    read: int
    kept: int
    changed: int
    dropped: int
    rules: list[RuleCard]


class DatasetCard(Struct, frozen=True, kw_only=True):
    """A prepared dataset. ``created`` is in UTC, ISO 8601; ``sha256`` is over its dialogues."""

    name: str
    created: str
    sha256: str
    dialogues: int
    characters: int
    seed: int
    drawn: list[str]
    inputs: list[DatasetInput]
    splits: dict[str, SplitCard]
    cleaning: CleaningCard


class DatasetList(Struct, frozen=True, kw_only=True):
    """The prepared datasets, and those that cannot be read, with the reason."""

    data: list[DatasetCard]
    broken: dict[str, str]
    object: Literal["list"] = "list"


class PreviewSpan(Struct, frozen=True, kw_only=True):
    """A piece of text that bears a loss throughout, or not at all."""

    text: str
    is_target: bool


class PreviewSequence(Struct, frozen=True, kw_only=True):
    """One training sequence; its tokens are unknown without a base."""

    spans: list[PreviewSpan]
    tokens: int | None
    target_tokens: int | None


class PreviewDialogue(Struct, frozen=True, kw_only=True):
    """A dialogue, and the sequences that a training makes of it."""

    dialog: list[str]
    sequences: list[PreviewSequence]


class DatasetPreview(Struct, frozen=True, kw_only=True):
    """Some dialogues of a split, the first of them numbered ``first`` of ``total``."""

    split: str
    first: int
    total: int
    data: list[PreviewDialogue]
