"""Bases: find one on this machine, read its shape, and tell by content which one it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from adapters.errors import BaseInvalid, BaseNotFound
from adapters.home import Home
from adapters.manifest import PROJECTIONS, BaseRef

DEFAULT_BASE = "Qwen/Qwen3-0.6B"
# The small base that this project builds itself.
POCKET = "pocket"
SUPPORTED = ("qwen3", "qwen2", "llama")

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"


class Architecture(msgspec.Struct, frozen=True):
    """The dimensions of a dense Llama-family decoder, as its ``config.json`` gives them."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int

    @property
    def parameters(self) -> int:
        """How many there are but for norms and biases; the head counts as tied."""
        shapes = (self.projection_shape(projection) for projection in PROJECTIONS)
        a_layer = sum(inputs * outputs for inputs, outputs in shapes)
        return self.vocab_size * self.hidden_size + self.layers * a_layer

    def projection_shape(self, projection: str) -> tuple[int, int]:
        """(inputs, outputs) of one of :data:`adapters.manifest.PROJECTIONS`."""
        hidden, wide = self.hidden_size, self.intermediate_size
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (hidden, queries),
            "k_proj": (hidden, keys),
            "v_proj": (hidden, keys),
            "o_proj": (queries, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }[projection]


class Base(msgspec.Struct, frozen=True):
    """A base checkpoint on this machine. ``name`` is how users and adapters call it."""

    name: str
    path: Path
    architecture: Architecture
    ref: BaseRef


def find_base(name: str, home: Home) -> Base:
    """The base called ``name``, where :func:`locate_base` finds it.

    Raises:
        BaseNotFound: it is nowhere here.
        BaseInvalid: its directory cannot be used.
    """
    path = locate_base(name, home)
    is_directory = path == Path(name).expanduser().absolute()
    return read_base(path, path.name if is_directory else name)


def locate_base(name: str, home: Home) -> Path:
    """Where ``name`` is: built or downloaded under home, a directory, or in the hub's cache.

    Never downloads. An interrupted download in the cache counts as absent.

    Raises:
        BaseNotFound: it is nowhere here.
    """
    local = home.bases / name.replace("/", "--")
    if (local / "config.json").is_file():
        return local
    given = Path(name).expanduser()
    if (given / "config.json").is_file():
        return given.absolute()
    cached = _hub_cache(name)
    if cached is not None:
        return cached
    raise BaseNotFound(name, [local, given] if "/" in name else [local])


def _hub_cache(name: str) -> Path | None:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str) or not _is_complete(Path(found).parent):
        return None
    return Path(found).parent


def _is_complete(snapshot: Path) -> bool:
    """Whether a download reached its end, as far as :func:`read_base` needs it."""
    try:
        weight_files(snapshot)
    except BaseInvalid:
        return False
    described = any((snapshot / name).is_file() for name in (TEMPLATE, TOKENIZER_CONFIG))
    return described and (snapshot / TOKENIZER).is_file()


def read_base(path: Path, name: str) -> Base:
    """Read the base in ``path`` and hash its weights, tokenizer and chat template.

    Raises:
        BaseInvalid: a file is missing, or the architecture is not one of :data:`SUPPORTED`.
    """
    architecture = read_architecture(path)
    weights = weight_files(path)
    tokenizer = path / TOKENIZER
    if not tokenizer.is_file():
        raise BaseInvalid(f"{path} holds no tokenizer.json (a fast tokenizer is needed).")
    ref = BaseRef(
        name=name,
        weights_sha256=_sha256(weights),
        tokenizer_sha256=_sha256([tokenizer]),
        template_sha256=hashlib.sha256(chat_template(path).encode()).hexdigest(),
    )
    return Base(name=name, path=path, architecture=architecture, ref=ref)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a checkpoint, in the order in which they are hashed.

    Raises:
        BaseInvalid: one is missing, or all of them.
    """
    index = path / INDEX
    if index.is_file() and not (path / SINGLE).is_file():
        for shard in _shards(index):
            if not (path / shard).is_file():
                raise BaseInvalid(
                    f"{path} is incomplete: {shard} is missing, which {INDEX} names. "
                    "Copy or download the checkpoint again."
                )
    weights = sorted(file for file in path.glob("*.safetensors") if file.is_file())
    if not weights:
        raise BaseInvalid(f"{path} holds no *.safetensors weights.")
    return weights


def _shards(index: Path) -> list[str]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise BaseInvalid(f"{index}: the field 'weight_map' should be an object.")
    return sorted({str(shard) for shard in weight_map.values()})


def read_architecture(path: Path) -> Architecture:
    """The dimensions in ``path/config.json``.

    Raises:
        BaseInvalid: unreadable, incomplete or unsupported, naming the field.
    """
    config = _read_json(path / "config.json")
    model_type = config.get("model_type")
    if model_type not in SUPPORTED:
        supported = ", ".join(SUPPORTED)
        raise BaseInvalid(f"{path} is a {model_type!r} model; supported are: {supported}.")
    dimension = _Dimensions(path / "config.json", config)
    heads, hidden = dimension("num_attention_heads"), dimension("hidden_size")
    return Architecture(
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=dimension("intermediate_size"),
        layers=dimension("num_hidden_layers"),
        heads=heads,
        kv_heads=dimension("num_key_value_heads", heads),
        head_dim=dimension("head_dim", hidden // heads),
        vocab_size=dimension("vocab_size"),
        context_length=dimension("max_position_embeddings"),
    )


class _Dimensions:
    """Reads sizes from a ``config.json``; each must be a positive integer."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self._path = path
        self._config = config

    def __call__(self, field: str, default: int | None = None) -> int:
        found = self._config.get(field)
        if found is None:
            found = default
        if found is None:
            raise BaseInvalid(f"{self._path}: the field '{field}' is missing.")
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise BaseInvalid(
                f"{self._path}: the field '{field}' should be a positive integer, not {found!r}."
            )
        return found


def chat_template(path: Path) -> str:
    """The base's own chat template (Jinja source).

    Raises:
        BaseInvalid: it has none, so it is no chat model.
    """
    beside = path / TEMPLATE
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    template = _read_json(path / TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, str):
        return template
    raise BaseInvalid(f"{path} has no chat template; use an instruct or chat checkpoint.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise BaseInvalid(f"{path} is missing.") from None
    except msgspec.DecodeError as error:
        raise BaseInvalid(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise BaseInvalid(f"{path} should hold a JSON object.")
    return found


def _sha256(paths: list[Path]) -> str:
    """One hash over several files; for a single file it is that file's SHA-256."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
