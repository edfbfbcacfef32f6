"""The model that is trained: a frozen, quantised base with LoRA, and its loss at target tokens.

It knows bitsandbytes and PEFT, and nothing of datasets, runs or schedules.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from adapters.base import Architecture, Base
from training.errors import RecipeError
from training.nn import attention
from training.nn.adalora import NAME, adalora_config, plain_lora
from training.nn.flash import sent
from training.nn.norms import fuse_norms
from training.nn.packing import Pack
from training.nn.projection import fuse_projections, recomputation
from training.nn.rotary import fuse_rotary
from training.recipe import Quantization, Recipe

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

# From so many parameters on, native bf16 is quicker than fp32 on a CPU (BENCHMARKS.md).
BF16_PARAMETERS = 100_000_000
BF16_CAPABILITY = (8, 0)  # Ampere; `is_bf16_supported()` is also true where bf16 is emulated


def training_device() -> torch.device:
    """The CUDA device of this process (the first unless told otherwise), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def compute_dtype(asked: str, device: torch.device, base: Architecture) -> torch.dtype:
    """The dtype of activations. ``auto`` takes bf16 only where it is measured to be quicker.

    On a CPU without AVX512-BF16 or AMX a bf16 product is emulated and ten times slower than in
    fp32, and with them what is around the products of a small base costs more than these save; so
    ``auto`` is fp32 there. GPUs before Ampere get fp16.
    """
    if asked != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[asked]
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
        return torch.bfloat16 if native else torch.float16
    is_quicker = cpu_computes_bf16() and base.parameters >= BF16_PARAMETERS
    return torch.bfloat16 if is_quicker else torch.float32


def cpu_computes_bf16() -> bool:
    """Whether this CPU has bf16 dot products (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001 # torch has no public query


def load_model(
    base: Base,
    recipe: Recipe,
    device: torch.device,
    total_steps: int = 1,
    *,
    is_fused: bool = True,
    recomputed_layers: int | None = None,
) -> PeftModel:
    """The base as the recipe quantises it, with fresh LoRA weights (drawn from torch's seed).

    The first ``recomputed_layers`` compute their activations again for the gradient; by default all
    do, unless the recipe's ``gradient_checkpointing`` is false.

    ``total_steps`` are those of the training, which AdaLoRA has to know. Without ``is_fused``
    projections are computed by PEFT, norms and positions by transformers, to compare with.

    Raises:
        RecipeError: the compute dtype is not possible on this device.
    """
    from peft import get_peft_model

    model = load_base(base, recipe.quantization, device)
    tuned = get_peft_model(model, _lora_config(recipe, total_steps))
    tuned.peft_config[NAME].base_model_name_or_path = base.name
    if is_fused:
        fuse_norms(model)
        fuse_rotary(model)
        fuse_projections(tuned, NAME)
    if recomputed_layers is None:
        is_on = recipe.training.gradient_checkpointing is not False
        recomputed_layers = len(model.model.layers) if is_on else 0
    recompute_first(tuned, recomputed_layers)
    return tuned


def recompute_first(model: Any, layers: int) -> None:
    """From now on the first ``layers`` of ``model`` compute their activations again.

    The last ones keep theirs: they are the first that the gradient goes through, so that their
    memory is free again when others are computed.
    """
    core = core_of(model)
    if layers and not recomputed_layers(model):
        core.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False, "context_fn": recomputation}
        )
    for at, layer in enumerate(core.model.layers):
        layer.gradient_checkpointing = at < layers


def recomputed_layers(model: Any) -> int:
    """How many layers of ``model`` compute their activations again."""
    return sum(layer.gradient_checkpointing for layer in core_of(model).model.layers)


def _lora_config(recipe: Recipe, total_steps: int) -> LoraConfig:
    from peft import LoraConfig

    lora = recipe.lora
    if lora.kind == "adalora":
        return adalora_config(lora, recipe.adalora, recipe.initial_r, total_steps)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
        use_rslora=lora.kind == "rslora",
        use_dora=lora.kind == "dora",
    )


def load_base(base: Base, quantization: Quantization, device: torch.device) -> Any:
    """The base as transformers has it, frozen, in the number format of ``quantization``.

    Raises:
        RecipeError: the compute dtype is not possible on this device.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = compute_dtype(quantization.compute_dtype, device, base.architecture)
    if dtype is torch.float16 and device.type == "cpu":
        raise RecipeError("quantization.compute_dtype: fp16 needs a GPU; use auto, bf16 or fp32.")
    config = None
    if quantization.kind == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantization.double,
            bnb_4bit_compute_dtype=dtype,
        )
    elif quantization.kind == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    model = AutoModelForCausalLM.from_pretrained(
        base.path,
        dtype=dtype,
        quantization_config=config,
        device_map={"": device},
        attn_implementation=attention.implementation(device, dtype),
        local_files_only=True,
    )
    keep_gradients(model)
    model.requires_grad_(False)
    return model


def keep_gradients(model: torch.nn.Module) -> None:
    """Switch off bitsandbytes' repacking of weights for CPU inference.

    On CPUs with AVX512-BF16 the first forward in ``eval()`` rewrites a ``Linear4bit`` for a kernel
    that has no backward; every later training step then gives LoRA's B zero gradients in all but
    two projections, without an error (bitsandbytes 0.50.2, ``nn/modules.py``).
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that are trained: LoRA's A and B."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def core_of(model: Any) -> Any:
    """The causal language model itself, LoRA in place, of a PEFT model or of a bare base."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def target_logits(model: Any, pack: Pack, neftune_alpha: float = 0.0) -> torch.Tensor:
    """The logits that are to give the pack's targets: [N, vocabulary], fp32.

    The dialogues of a pack lie in one row and are kept apart by :mod:`training.nn.attention`, or by
    ``position_ids`` that restart and the absence of an attention mask (transformers then builds the
    block mask; with a mask of ones it would not). The LM head runs at target positions only.
    ``neftune_alpha`` is the size of the noise on the embeddings while the model trains, for packs
    that share nothing.
    """
    core = core_of(model)
    device = core.lm_head.weight.device
    positions = sent(pack.position_ids, device)
    embedded = core.get_input_embeddings()(sent(pack.input_ids, device))
    if neftune_alpha and model.training:
        embedded = embedded + _noise(embedded, positions, neftune_alpha)
    hidden = core.model(
        inputs_embeds=embedded[None],
        position_ids=positions[None],
        use_cache=False,
        **attention.arguments(core, pack, device),
    ).last_hidden_state[0]
    return core.lm_head(hidden[sent(pack.predicting, device)]).float()


def summed_nll(model: Any, pack: Pack, neftune_alpha: float = 0.0) -> torch.Tensor:
    """The negative log likelihood of the pack's targets, summed, in nats (a scalar)."""
    logits = target_logits(model, pack, neftune_alpha)
    return cross_entropy(logits, sent(pack.targets, logits.device), reduction="sum")


def _noise(embedded: torch.Tensor, positions: torch.Tensor, alpha: float) -> torch.Tensor:
    """NEFTune's noise (Jain et al. 2023): uniform within ``alpha / sqrt(length * width)``.

    The length is that of each dialogue, as if it were alone; transformers' own hook would take the
    pack's. ``embedded``: [T, width]; ``positions``: [T], restarting at 0 with each dialogue.
    """
    dialogue = (positions == 0).cumsum(0) - 1
    lengths = dialogue.bincount()[dialogue]
    bound = alpha / (lengths * embedded.shape[1]).sqrt()
    return (2 * torch.rand_like(embedded) - 1) * bound[:, None].to(embedded.dtype)


def adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """LoRA's tensors by PEFT's names, on the CPU; of AdaLoRA all ranks, also those taken away."""
    from peft import get_peft_model_state_dict

    if is_adalora(model):  # PEFT would leave out what was taken away, and not find it again
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        return {
            name.removesuffix(f".{NAME}"): one.detach().cpu().clone() for name, one in named.items()
        }
    # "auto" would ask the hub whether the embedding had grown
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def load_adapter_state(model: PeftModel, state: dict[str, torch.Tensor]) -> None:
    """Put back what :func:`adapter_state` gave; every tensor must find its place."""
    from peft import set_peft_model_state_dict

    if is_adalora(model):
        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in state.items():
                named[f"{name}.{NAME}"].copy_(tensor)
        return
    outcome = set_peft_model_state_dict(model, state)
    if outcome.unexpected_keys:
        raise ValueError(f"unexpected tensors: {outcome.unexpected_keys[:3]}")


def save_adapter(model: PeftModel, state: dict[str, torch.Tensor], directory: Path) -> None:
    """Write PEFT's two files, with ``state`` as the weights; of AdaLoRA, as plain LoRA."""
    from safetensors.torch import save

    directory.mkdir(parents=True, exist_ok=True)
    config = copy(model.peft_config[NAME])
    if is_adalora(model):
        state = plain_lora(state, config.lora_alpha)
        config = _plain_config(config, next(iter(state.values())).shape[0])
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)  # a set: its order would change the hash
    config.save_pretrained(directory)
    weights = save(state, metadata={"format": "pt"})  # its own writing hides why it fails
    (directory / "adapter_model.safetensors").write_bytes(weights)


def is_adalora(model: PeftModel) -> bool:
    """Whether the model's ranks compete."""
    return bool(model.peft_config[NAME].peft_type == "ADALORA")


def _plain_config(adalora: LoraConfig, rank: int) -> LoraConfig:
    """The configuration of what :func:`training.nn.adalora.plain_lora` gives: a scale of 1."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=adalora.lora_dropout,
        target_modules=adalora.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=adalora.base_model_name_or_path,
    )
