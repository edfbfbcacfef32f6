"""A dataset's splits as tokens for one base and one way of encoding, made when first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from adapters.environment import processors
from training.data.arrow import Dialogues
from training.data.assembly import Assembler
from training.data.encode import Encoding
from training.data.encoded import Encoded
from training.data.tokens import TokenFiles, TokenWriter, open_tokens
from training.data.workers import Workers
from training.stages import OnProgress, unheard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adapters.base import Base
    from training.data.dataset import PreparedDataset

# Raised when the same dialogue and settings may give other tokens than before.
ENCODING_VERSION = 1

DIALOGUES_A_TASK = 2000
TASKS_BETWEEN_KEEPS = 50

# A process takes seconds to load its libraries: fewer dialogues are encoded in this one.
DIALOGUES_WORTH_PROCESSES = 500_000


def encode_split(
    dataset: PreparedDataset,
    split: str,
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    encoding: Encoding,
    on_progress: OnProgress = unheard,
    processes: int | None = None,
) -> TokenFiles:
    """The tokens of a split, as ``tokenizer``, which is that of ``base``, makes them.

    They are kept with the dataset and made anew when anything that they depend on has changed. Made
    by all processors where that is worth it, in little memory; when it is stopped, the next call
    goes on from there. ``on_progress`` gets (dialogues done, dialogues in all).

    Raises:
        DataError: the base's template refuses a dialogue, a maximum length leaves no room for a
            reply, or the disk is full.
    """
    dialogues = dataset.split(split)
    content = {
        "dialogues": dataset.manifest.splits[split].sha256,
        "tokenizer": base.ref.tokenizer_sha256,
        "special": [tokenizer.eos_token_id, sorted(tokenizer.added_tokens_encoder.items())],
        "template": base.ref.template_sha256,
        "encoding": msgspec.to_builtins(encoding),
        "version": [ENCODING_VERSION, version("transformers"), version("tokenizers")],
    }
    worthwhile = processors() if len(dialogues) >= DIALOGUES_WORTH_PROCESSES else 1

    def make(writer: TokenWriter) -> None:
        with Workers(worthwhile if processes is None else processes) as workers:
            if workers.processes > 1:
                work = partial(_encode_there, base.path, dialogues.path, encoding)
            else:
                work = partial(_encode, Assembler(tokenizer, encoding), dialogues)
            _write(writer, workers, work, len(dialogues), on_progress)

    return open_tokens(dataset.path / "tokens", content, make)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the base at ``path``, from there and nowhere else."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True)


class _Range(NamedTuple):
    """Dialogues from ``start`` up to and without ``stop``."""

    start: int
    stop: int


def _write(
    writer: TokenWriter,
    workers: Workers,
    work: Callable[[_Range], Encoded],
    total: int,
    on_progress: OnProgress,
) -> None:
    ranges = list(_ranges(writer.read, total))
    for number, (done, encoded) in enumerate(
        zip(ranges, workers.in_order(work, ranges), strict=True), start=1
    ):
        writer.write(encoded, done.stop - done.start)
        if number % TASKS_BETWEEN_KEEPS == 0:
            writer.keep()
        on_progress(done.stop, total)


def _ranges(start: int, total: int) -> Iterator[_Range]:
    for at in range(start, total, DIALOGUES_A_TASK):
        yield _Range(at, min(at + DIALOGUES_A_TASK, total))


def _encode(assembler: Assembler, dialogues: Dialogues, part: _Range) -> Encoded:
    return assembler.encode(list(dialogues.between(part.start, part.stop)))


def _encode_there(base: Path, split: Path, encoding: Encoding, part: _Range) -> Encoded:
    """The same in a process of its own, which loads tokenizer and dialogues once."""
    assembler, dialogues = _loaded(base, split, encoding)
    return _encode(assembler, dialogues, part)


@lru_cache(maxsize=1)
def _loaded(base: Path, split: Path, encoding: Encoding) -> tuple[Assembler, Dialogues]:
    return Assembler(load_tokenizer(base), encoding), Dialogues(split)
