"""A merged base as one GGUF file, for llama.cpp and what is built on it.

The `gguf` package of llama.cpp's authors writes the file, and it is read back and compared before
anybody gets it. What could not be compared is refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapters.base import Base, weight_files
from training.errors import ExportFailed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FAMILIES = ("qwen2", "qwen3")
# llama.cpp's names of how text is cut before byte pairs are merged.
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def check_possible(base: Base) -> str:
    """llama.cpp's name for the base's way of cutting text; what cannot be exported is refused.

    Raises:
        ExportFailed: the family, the rope or the tokenizer is none that was verified, or the
            package `gguf` is missing.
    """
    try:
        import gguf  # noqa: F401 # whether it is there
    except ImportError:
        raise ExportFailed(
            "GGUF needs the package 'gguf', which is not installed: pip install gguf"
        ) from None
    family = base.architecture.model_type
    if family not in FAMILIES:
        raise ExportFailed(
            f"The base is a {family} model, and GGUF is written for {' and '.join(FAMILIES)} only: "
            "others store their heads in another order. Export as peft, or merge."
        )
    rope = _config(base).get("rope_parameters") or _config(base).get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ExportFailed("The base scales its rope, which is not written to GGUF; use peft.")
    return _cutting(json.loads((base.path / "tokenizer.json").read_text("utf-8")))


def _cutting(tokenizer: dict[str, Any]) -> str:
    model, before = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    if model.get("type") == "BPE":
        if all(before.get(key) == value for key, value in GPT2.items()):
            return "gpt-2"
        parts = before.get("pretokenizers", [])
        if [part.get("pattern", {}).get("Regex") for part in parts[:1]] == [QWEN2]:
            return "qwen2"
    raise ExportFailed(
        "The base's tokenizer cuts text in a way that is none of those verified for GGUF (Qwen's "
        "and GPT-2's); export as peft, or merge."
    )


def write_gguf(
    merged: Base, tokenizer: PreTrainedTokenizerBase, path: Path, cutting: str, name: str
) -> None:
    """Write the checkpoint ``merged`` to ``path``, its matrices in the dtype that they have.

    Vectors become fp32, as llama.cpp wants them. ``cutting`` is from :func:`check_possible`.
    """
    import gguf

    writer = gguf.GGUFWriter(path, merged.architecture.model_type)
    writer.add_name(name)
    _add_shape(writer, merged)
    _add_tokens(writer, merged, tokenizer, cutting)
    for called, tensor in _tensors(merged):
        kind, data = _stored(tensor)
        writer.add_tensor(called, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def differences(merged: Base, tokenizer: PreTrainedTokenizerBase, path: Path) -> list[str]:
    """Read ``path`` back: every tensor, token or merge in it that is not the checkpoint's."""
    import gguf

    reader = gguf.GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    problems = []
    for name, tensor in _tensors(merged):
        stored = found.pop(name, None)
        if stored is None:
            problems.append(f"{name} is missing")
            continue
        values = gguf.quants.dequantize(stored.data, stored.tensor_type)
        if not np.array_equal(values.reshape(tensor.shape), tensor.float().numpy()):
            problems.append(f"{name} differs")
    problems += [f"{name} is unexpected" for name in found]
    texts, _ = _vocabulary(merged, tokenizer)
    if _listed(reader, "tokens") != texts:
        problems.append("the tokens differ")
    if _listed(reader, "merges") != _merges(merged):
        problems.append("the merges differ")
    return problems


def _listed(reader: Any, what: str) -> list[str]:
    """A list of the tokenizer's; one that is empty is not in the file."""
    field = reader.get_field(f"tokenizer.ggml.{what}")
    return field.contents() if field else []


def _tensors(merged: Base) -> Any:
    """(llama.cpp's name, tensor) of the whole checkpoint, a file in memory at a time."""
    import gguf
    from safetensors.torch import load_file

    family = merged.architecture.model_type
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[family]
    names = gguf.get_tensor_name_map(arch, merged.architecture.layers)
    is_tied = bool(_config(merged).get("tie_word_embeddings"))
    for file in weight_files(merged.path):
        for name, tensor in load_file(file).items():
            called = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if called is None:
                raise ExportFailed(f"GGUF has no name for the base's tensor {name}.")
            if not (is_tied and name == "lm_head.weight"):
                yield called, tensor


def _stored(tensor: torch.Tensor) -> tuple[Any, np.ndarray]:
    from gguf import GGMLQuantizationType, quants

    kinds = {
        torch.float32: GGMLQuantizationType.F32,
        torch.float16: GGMLQuantizationType.F16,
        torch.bfloat16: GGMLQuantizationType.BF16,
    }
    kind = kinds[tensor.dtype] if tensor.dim() > 1 else GGMLQuantizationType.F32
    return kind, quants.quantize(tensor.float().numpy(), kind)


def _add_shape(writer: Any, merged: Base) -> None:
    shape, config = merged.architecture, _config(merged)
    rope = config.get("rope_parameters") or {}
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_rope_freq_base(config.get("rope_theta") or rope.get("rope_theta") or 10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _add_tokens(
    writer: Any, merged: Base, tokenizer: PreTrainedTokenizerBase, cutting: str
) -> None:
    texts, kinds = _vocabulary(merged, tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cutting)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges(_merges(merged))
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if isinstance(tokenizer.pad_token_id, int):
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _vocabulary(merged: Base, tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[int]]:
    """The text and the kind of every id; ids that have no token are unused."""
    from gguf import TokenType

    size = merged.architecture.vocab_size
    texts = [f"[PAD{index}]" for index in range(size)]
    kinds = [TokenType.UNUSED] * size
    for text, index in tokenizer.get_vocab().items():
        texts[index], kinds[index] = text, TokenType.NORMAL
    for index, token in tokenizer.added_tokens_decoder.items():
        kinds[index] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    return texts, [int(kind) for kind in kinds]


def _merges(merged: Base) -> list[str]:
    stored = json.loads((merged.path / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    return [one if isinstance(one, str) else " ".join(one) for one in stored]


def _config(base: Base) -> dict[str, Any]:
    return json.loads((base.path / "config.json").read_text("utf-8"))
