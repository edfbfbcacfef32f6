"""Merging and exporting, each with its check: what was written is loaded and compared."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import msgspec

from adapters.base import Base, read_base
from adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    SamplingDefaults,
    read_manifest,
)
from training.data.dialogue import Dialogue
from training.data.token_cache import load_tokenizer
from training.errors import ExportFailed
from training.export.agreement import Agreement, agreement
from training.export.gguf_file import check_possible, differences, write_gguf
from training.export.merge import new_directory, write_merged
from training.export.ollama import MODELFILE, modelfile
from training.export.probe import probe_examples
from training.nn.model import load_base, training_device
from training.quiet import quiet_libraries
from training.recipe import Quantization
from training.stages import OnStage, Stages, unheard

FP32 = Quantization(kind="none", compute_dtype="fp32")
# The most that rounding of the weights may change the next token, in nats of KL on average. What
# is further off is no rounding; bf16 was measured a hundred times below (BENCHMARKS.md).
MOST_KL = {"fp32": 1e-6, "fp16": 0.02, "bf16": 0.02}


class Source(msgspec.Struct, frozen=True):
    """An adapter to be given away: PEFT's files in ``path``, and how it is prompted and sampled.

    ``dialogues`` are what the outcome is compared on.
    """

    name: str
    path: Path
    base: Base
    dialogues: Sequence[Dialogue]
    system_prompt: str | None = None
    sampling: SamplingDefaults = SamplingDefaults()


def merge(source: Source, out: Path, dtype: str = "bf16", on_stage: OnStage = unheard) -> Agreement:
    """Write the base with the adapter merged in to ``out``; how far it is from the unmerged one.

    ``on_stage`` is told of the `merging` (in tensors) and the `comparing` (in examples).

    Raises:
        ExportFailed: it could not be written, or is not what it should be; ``out`` is not there.
    """
    stages = _stages(source, on_stage, "merging")
    with new_directory(out) as staged:
        _write_merged(source, staged, dtype, stages)
        return _checked(source, read_base(staged, out.name), dtype, stages)


def export_peft(source: Source, out: Path, on_stage: OnStage = unheard) -> Agreement:
    """Write a directory for PEFT, and for servers that load such adapters, such as vLLM.

    Its config names the base as it is found from here; our manifest lies beside it.

    Raises:
        ExportFailed: as :func:`merge`.
    """
    with new_directory(out) as staged:
        config = msgspec.json.decode((source.path / CONFIG_FILE).read_bytes())
        config["base_model_name_or_path"] = base_reference(source.base)
        encoded = msgspec.json.format(msgspec.json.encode(config), indent=2)
        (staged / CONFIG_FILE).write_bytes(encoded)
        for name in (WEIGHTS_FILE, MANIFEST_FILE):
            if (source.path / name).is_file():
                (staged / name).write_bytes((source.path / name).read_bytes())
        _without_file_hashes(staged)
        with quiet_libraries():
            stages = _stages(source, on_stage)
            return _passed(_compared(source, _tuned(source.base, staged), stages), "fp32")


def export_ollama(
    source: Source, out: Path, dtype: str = "bf16", on_stage: OnStage = unheard
) -> Agreement:
    """Write a merged base with a Modelfile, for `ollama create`.

    Raises:
        ExportFailed: as :func:`merge`, or Ollama would make other prompts.
    """
    text = _modelfile(source, ".")
    stages = _stages(source, on_stage, "merging")
    with new_directory(out) as staged:
        _write_merged(source, staged, dtype, stages)
        (staged / MODELFILE).write_text(text, encoding="utf-8")
        return _checked(source, read_base(staged, out.name), dtype, stages)


def export_gguf(
    source: Source, out: Path, dtype: str = "bf16", on_stage: OnStage = unheard
) -> Agreement:
    """Write one GGUF file, with a Modelfile where the template allows it.

    The file is read back: every tensor, token and merge is compared with the merged checkpoint,
    and the logits of what transformers makes of it with those of the unmerged adapter.

    Raises:
        ExportFailed: as :func:`merge`, or it cannot be verified for this base.
    """
    cutting = check_possible(source.base)
    tokenizer = load_tokenizer(source.base.path)
    stages = _stages(source, on_stage, "merging", "writing", "checking")
    with new_directory(out) as staged:
        file = staged / gguf_name(source, dtype)
        with new_directory(staged / "merged") as checkpoint:
            _write_merged(source, checkpoint, dtype, stages)
            merged = read_base(checkpoint, source.name)
            stages.begin()
            write_gguf(merged, tokenizer, file, cutting, source.name)
            stages.begin()
            if problems := differences(merged, tokenizer, file):
                raise ExportFailed(f"{file.name} is not what was written: {'; '.join(problems)}.")
        shutil.rmtree(staged / "merged")
        with quiet_libraries():
            found = _passed(_compared(source, _from_gguf(file, source.base), stages), dtype)
        try:
            text = _modelfile(source, f"./{file.name}")
        except ExportFailed:
            return found  # llama.cpp has the template from the file itself
        (staged / MODELFILE).write_text(text, encoding="utf-8")
        return found


def gguf_name(source: Source, dtype: str) -> str:
    """What the file is called, as llama.cpp's tools call theirs."""
    return f"{source.name}-{dtype.upper()}.gguf"


def base_reference(base: Base) -> str:
    """What leads others to the base: its id at the hub, or where it lies here."""
    return base.name if base.name.count("/") == 1 else str(base.path.absolute())


def _modelfile(source: Source, where: str) -> str:
    tokenizer = load_tokenizer(source.base.path)
    return modelfile(source.base, tokenizer, source.system_prompt, source.sampling, where)


def _stages(source: Source, on_stage: OnStage, *before: str) -> Stages:
    """All that an export goes through: what comes ``before``, and the comparison."""
    return Stages([(stage, source.name) for stage in (*before, "comparing")], on_stage)


def _write_merged(source: Source, out: Path, dtype: str, stages: Stages) -> None:
    write_merged(source.base, source.path, out, dtype, source.sampling, stages.begin())


def _checked(source: Source, merged: Base, dtype: str, stages: Stages) -> Agreement:
    with quiet_libraries():
        candidate = load_base(merged, FP32, training_device())
        return _passed(_compared(source, candidate, stages), dtype)


def _passed(found: Agreement, dtype: str) -> Agreement:
    if not found.mean_kl <= MOST_KL[dtype]:  # also what is no number
        raise ExportFailed(
            f"What was written does not answer as the adapter does (mean KL {found.mean_kl:.3g} "
            f"nats, {found.same_choice:.1%} of tokens alike), so it was deleted."
        )
    return found


def _compared(source: Source, candidate: Any, stages: Stages) -> Agreement:
    advance = stages.begin()
    tokenizer = load_tokenizer(source.base.path)
    examples = probe_examples(source.dialogues, tokenizer, source.system_prompt)
    return agreement(_tuned(source.base, source.path), candidate, examples, advance)


def _tuned(base: Base, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(base, FP32, training_device()), adapter)


def _from_gguf(file: Path, base: Base) -> Any:
    """What transformers' own reader of GGUF makes of it, in fp32.

    The shape is the base's, because that reader does not know the file's length of heads.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with redirect_stderr(io.StringIO()):  # a bar that cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            config=AutoConfig.from_pretrained(base.path),
            gguf_file=file.name,
            dtype=torch.float32,
            local_files_only=True,
        )
    return model.to(training_device()).eval()


def _without_file_hashes(directory: Path) -> None:
    """Our manifest as before registration: the config beside it is another now."""
    if (manifest := read_manifest(directory)) is not None:
        plain = msgspec.structs.replace(manifest, files=())
        (directory / MANIFEST_FILE).write_bytes(plain.encoded())
