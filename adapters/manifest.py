"""The manifest of an adapter: what it was trained on, how to prompt it, what its files are.

It is written beside PEFT's own two files as ``adapter.json``. A directory without one (trained
elsewhere) gets a manifest at registration. Registering adds nothing that changes with time or
place, so that the same directory always has the same digest. What is measured later is written
into it too, and is not part of the digest: that stands for what an adapter does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "adapter.json"

# The seven linear projections of a Llama-family layer; nothing else may be adapted.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

EVALUATIONS_KEPT = 20

SEED_SYSTEM_PROMPT = "你是一个乐于助人的AI助手。"


# From the least to the most that a reply can be sampled with.
SAMPLING_RANGES = {
    "max_tokens": (1, 1_000_000),
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1_000_000),
    "repetition_penalty": (0.01, 10.0),
}


class SamplingDefaults(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request gets for each parameter it leaves out. ``None``: the server's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


class BaseRef(msgspec.Struct, frozen=True):
    """The base that an adapter belongs to, by name and by content (hex SHA-256 each)."""

    name: str
    weights_sha256: str
    tokenizer_sha256: str
    template_sha256: str


class RunRef(msgspec.Struct, frozen=True):
    """The training that made an adapter.

    ``sweep`` is the sweep that it was a trial of; the key is absent where it was none.
    """

    id: str
    dataset: str
    dataset_sha256: str
    recipe_sha256: str
    steps: int
    sweep: str | msgspec.UnsetType = msgspec.UNSET


class FileRef(msgspec.Struct, frozen=True):
    """One file of the adapter: size in bytes and hex SHA-256."""

    name: str
    size: int
    sha256: str


class Evaluation(msgspec.Struct, frozen=True):
    """What was measured of a model on one split of a dataset, by `lccc-admin evaluate`.

    ``metrics`` are by the names of :data:`training.scores.metrics.METRICS`, over ``dialogues`` for
    what is about likelihood and over ``replies`` for what is about texts. ``conditions`` says how
    replies were made and how the base was held; ``measured`` is Unix seconds.
    """

    dataset: str
    dataset_sha256: str
    split: str
    dialogues: int
    replies: int
    conditions: str
    measured: int
    metrics: dict[str, float]

    @property
    def subject(self) -> tuple[str, str]:
        """On what it was measured; a newer one on the same takes its place."""
        return self.dataset_sha256, self.split


def with_newest(known: Sequence[Evaluation], new: Evaluation) -> tuple[Evaluation, ...]:
    """``known``, the oldest first, and ``new``, in place of one of the same subject.

    Only the newest :data:`EVALUATIONS_KEPT` stay.
    """
    others = [one for one in known if one.subject != new.subject]
    return (*others, new)[-EVALUATIONS_KEPT:]


class Manifest(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-adapter/1"):
    """Everything the server needs to know of an adapter before it reads a tensor.

    ``metrics`` holds figures of the training, e.g. ``validation_nll`` (nats per token).
    ``files`` is filled at registration. ``evaluations`` came after the training; the key is absent
    where there are none.
    """

    base: BaseRef
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    system_prompt: str | None = None
    sampling: SamplingDefaults = SamplingDefaults()
    run: RunRef | None = None
    metrics: dict[str, float] = {}
    files: tuple[FileRef, ...] = ()
    evaluations: tuple[Evaluation, ...] | msgspec.UnsetType = msgspec.UNSET

    def encoded(self) -> bytes:
        """The canonical bytes; equal manifests give equal bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical bytes, and through ``files`` over the weights.

        Evaluations are left out, so that measuring an adapter does not make another of it.
        """
        lasting = msgspec.structs.replace(self, evaluations=msgspec.UNSET)
        return hashlib.sha256(lasting.encoded()).hexdigest()

    @property
    def measured(self) -> tuple[Evaluation, ...]:
        """The evaluations, oldest first; none where the key is absent."""
        return () if isinstance(self.evaluations, msgspec.UnsetType) else self.evaluations

    def with_evaluation(self, new: Evaluation) -> Manifest:
        """A manifest with ``new`` as its last evaluation, in place of one of the same subject.

        Only the newest stay, as :func:`with_newest` has it.
        """
        return msgspec.structs.replace(self, evaluations=with_newest(self.measured, new))


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest in ``directory``, or ``None`` where there is none.

    Raises:
        msgspec.DecodeError: it is there but not of this format.
    """
    path = directory / MANIFEST_FILE
    if not path.exists():
        return None
    return msgspec.json.decode(path.read_bytes(), type=Manifest)
