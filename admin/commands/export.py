"""``lccc-admin adapters merge`` and ``export``: adapters for others, each checked and measured."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin.context import AdminContext, pass_admin
from admin.options import json_option
from admin.progress import stages_bar

if TYPE_CHECKING:
    from training.export.agreement import Agreement
    from training.export.exports import Source
    from training.stages import OnStage

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank may be

name_argument = click.argument("name")
out_option = click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A new directory.",
)
base_option = click.option("--base", help="The base.  [default: that of the adapter]")
data_option = click.option(
    "--data", help="The dataset to compare on.  [default: what it was trained on, if that is here]"
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(("bf16", "fp16", "fp32")),
    default="bf16",
    help="Number format of merged weights.",
)


@click.command()
@name_argument
@out_option
@dtype_option
@base_option
@data_option
@json_option
@pass_admin
def merge(
    admin: AdminContext,
    name: str,
    out: Path,
    dtype: str,
    base: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    """Merge the adapter NAME into its full-precision base: a checkpoint of its own.

    NAME is a registered adapter, or a directory with one. The merged checkpoint is loaded and
    compared with the unmerged adapter, in fp32, on held-out dialogues.
    """
    from training.export.exports import merge as merged

    with _source(admin, name, base, data) as source:
        admin.output.say(f"Merging '{source.name}' into {source.base.name}, in {dtype} …")
        with stages_bar(admin.output) as on_stage:
            found = merged(source, out, dtype, on_stage)
        _tell(admin, out, found, f"lccc-admin serve --base {_quoted(out)}", as_json=as_json)
        if source.system_prompt:
            admin.output.say(
                "A base has no system prompt of its own; the adapter had this one, which clients "
                f"now have to send:\n  {source.system_prompt}"
            )


@click.command()
@name_argument
@out_option
@click.option(
    "--format",
    "form",
    type=click.Choice(("peft", "ollama", "gguf")),
    default="peft",
    help="For PEFT and vLLM, for Ollama, or for llama.cpp.",
)
@dtype_option
@base_option
@data_option
@json_option
@pass_admin
def export(  # one a command-line option
    admin: AdminContext,
    name: str,
    out: Path,
    form: str,
    dtype: str,
    base: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    """Write the adapter NAME for other servers, and print the command that serves it.

    peft is a LoRA directory (`vllm serve --enable-lora`), ollama a merged checkpoint with a
    Modelfile, gguf one file for llama.cpp. What was written is loaded again and its logits are
    compared with the adapter's; a GGUF file is also read back tensor by tensor.
    """
    from training.export import exports

    with _source(admin, name, base, data) as source:
        admin.output.say(f"Exporting '{source.name}' on {source.base.name} as {form} …")
        made: dict[str, Callable[[OnStage], Agreement]] = {
            "peft": lambda told: exports.export_peft(source, out, told),
            "ollama": lambda told: exports.export_ollama(source, out, dtype, told),
            "gguf": lambda told: exports.export_gguf(source, out, dtype, told),
        }
        with stages_bar(admin.output) as on_stage:
            found = made[form](on_stage)
        command = _serving(source, out, form, exports.gguf_name(source, dtype))
        _tell(admin, out, found, command, as_json=as_json)
        if form != "ollama" and source.system_prompt:
            admin.output.say(
                "Other servers know no system prompt of an adapter; clients have to send it:\n"
                f"  {source.system_prompt}"
            )


@contextmanager
def _source(
    admin: AdminContext, name: str, base_name: str | None, data: str | None
) -> Iterator[Source]:
    """The adapter, and the dialogues on which it is compared.

    Raises:
        ModelsDiffer: ``name`` is the base itself.
        DatasetNotFound: there is no dataset ``data``.
    """
    from admin.models import ModelsDiffer, chosen
    from training.export.exports import Source
    from training.export.probe import probe_dialogues

    with chosen(admin, [name], base_name) as (base, (model,)):
        if model.path is None or model.manifest is None:
            raise ModelsDiffer(f"'{name}' is the base itself; name an adapter.")
        manifest = model.manifest
        trained_on = manifest.run.dataset if manifest.run else None
        yield Source(
            name=model.name,
            path=model.path,
            base=base,
            dialogues=probe_dialogues(_dataset(admin, data, trained_on)),
            system_prompt=manifest.system_prompt,
            sampling=manifest.sampling,
        )


def _dataset(admin: AdminContext, asked: str | None, trained_on: str | None) -> Any:
    from training.data.dataset import PreparedDataset
    from training.errors import DatasetNotFound

    if asked:
        return PreparedDataset.open(admin.home.datasets, asked)
    if trained_on:
        try:
            return PreparedDataset.open(admin.home.datasets, trained_on)
        except DatasetNotFound:
            admin.output.say(f"'{trained_on}' is not here; comparing on bundled dialogues.")
    return None


def _serving(source: Source, out: Path, form: str, gguf: str) -> str:
    """What a person types to serve what was written."""
    if form == "ollama":
        return f"ollama create {source.name} -f {_quoted(out / 'Modelfile')}"
    if form == "gguf":
        return f"llama-server -m {_quoted(out / gguf)} --jinja"
    from training.export.exports import base_reference
    from training.export.weights import rank_of

    rank = rank_of(source.path)
    most = next((each for each in VLLM_RANKS if each >= rank), rank)
    lora = shlex.quote(f"{source.name}={out.absolute()}")
    return (
        f"vllm serve {shlex.quote(base_reference(source.base))} --enable-lora "
        f"--max-lora-rank {most} --lora-modules {lora}"
    )


def _tell(admin: AdminContext, out: Path, found: Agreement, command: str, *, as_json: bool) -> None:
    if as_json:
        admin.output.json({"path": str(out.absolute()), "agreement": found, "command": command})
        return
    rows = [
        ("perplexity per character", _number(found.reference_perplexity), "the adapter as it was"),
        ("", _number(found.candidate_perplexity), "what was written"),
        ("mean KL", f"{found.mean_kl:.2e}", "nats of the next token"),
        ("largest KL", f"{found.largest_kl:.2e}", "nats"),
        ("largest difference of logits", f"{found.largest_logit_difference:.2e}", ""),
        ("likeliest token the same", f"{found.same_choice:.2%}", f"of {found.tokens:,}"),
    ]
    admin.output.table(("compared", "", ""), rows)
    admin.output.say(f"Wrote {out}. Serve it with:")
    admin.output.data(command)


def _number(value: float) -> str:
    return f"{value:.4f}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
