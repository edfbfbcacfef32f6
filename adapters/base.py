"""Bases: find one on this machine, read its shape, and tell by content which one it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from adapters.errors import BaseInvalid, BaseNotFound
from adapters.home import Home
from adapters.manifest import BaseRef

DEFAULT_BASE = "Qwen/Qwen3-0.6B"
SUPPORTED = ("qwen3", "qwen2", "llama")


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
    """The base called ``name``: built or downloaded under home, a directory, or in the hub cache.

    Never downloads.

    Raises:
        BaseNotFound: it is nowhere here.
        BaseInvalid: its directory cannot be used.
    """
    local = home.bases / name.replace("/", "--")
    if (local / "config.json").is_file():
        return read_base(local, name)
    given = Path(name).expanduser()
    if (given / "config.json").is_file():
        return read_base(given.absolute(), given.absolute().name)
    cached = _hub_cache(name)
    if cached is not None:
        return read_base(cached, name)
    raise BaseNotFound(name, [local, given] if "/" in name else [local])


def _hub_cache(name: str) -> Path | None:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def read_base(path: Path, name: str) -> Base:
    """Read the base in ``path`` and hash its weights, tokenizer and chat template.

    Raises:
        BaseInvalid: a file is missing, or the architecture is not one of :data:`SUPPORTED`.
    """
    architecture = read_architecture(path)
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise BaseInvalid(f"{path} holds no *.safetensors weights.")
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise BaseInvalid(f"{path} holds no tokenizer.json (a fast tokenizer is needed).")
    ref = BaseRef(
        name=name,
        weights_sha256=_sha256(weights),
        tokenizer_sha256=_sha256([tokenizer]),
        template_sha256=hashlib.sha256(chat_template(path).encode()).hexdigest(),
    )
    return Base(name=name, path=path, architecture=architecture, ref=ref)


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
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        return Architecture(
            model_type=model_type,
            hidden_size=hidden,
            intermediate_size=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocab_size=int(config["vocab_size"]),
            context_length=int(config["max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BaseInvalid(f"{path / 'config.json'}: bad or missing field {error}.") from error


def chat_template(path: Path) -> str:
    """The base's own chat template (Jinja source).

    Raises:
        BaseInvalid: it has none, so it is no chat model.
    """
    beside = path / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    template = _read_json(path / "tokenizer_config.json").get("chat_template")
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
