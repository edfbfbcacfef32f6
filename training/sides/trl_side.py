"""TRL's SFTTrainer as a side, with dynamic padding or packed. Run by a Python that has TRL.

It is called by its path, so that the environment which has TRL needs nothing of this project. It
knows only the two modules beside it, and these only the standard library, psutil and torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[2]))  # last: what is installed there comes first

from training.sides.job import Job
from training.sides.playing import Measuring, Playing

if TYPE_CHECKING:
    import torch


def main(job_path: str, packing: str) -> None:
    """Train on the sequences of the job; ``packing`` is ``none`` or a strategy such as ``bfd``."""
    job = Job.read(Path(job_path))
    playing = Playing(job.device)
    import trl
    from transformers import TrainerCallback

    rows, steps_each = _rows(job, packing)
    trainer = _trainer(job, rows, sum(steps_each), packing)
    _without_emulated_bf16(trainer.model, job.dtype)

    class Rounds(TrainerCallback):  # type: ignore[misc, unused-ignore] # untyped
        """Waits for the word before each round, and measures it."""

        def __init__(self) -> None:
            self._left = list(steps_each)
            self._measuring: Measuring | None = None

        def on_step_begin(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
            if self._measuring is None:
                if playing.next_round() is None:
                    control.should_training_stop = True
                self._measuring = Measuring(playing.device)

        def on_step_end(self, *_arguments: Any, **_: Any) -> None:
            self._left[0] -= 1
            if self._left[0] == 0 and self._measuring is not None:
                playing.played(self._measuring)
                self._measuring = None
                del self._left[0]

    trainer.add_callback(Rounds())
    playing.ready(trl=trl.__version__, rows=len(rows))
    trainer.train()


def _rows(job: Job, packing: str) -> tuple[list[dict[str, Any]], list[int]]:
    """What the trainer reads one after the other, and how many optimiser steps each round has."""
    training = job.recipe["training"]
    rows, steps = [], []
    for sequences in job.sequences:
        made = [{"input_ids": ids, "labels": labels} for ids, labels in sequences]
        size = training["batch_size"] * training["gradient_accumulation"]
        if packing != "none":
            made, size = _packed(made, job.tokens_per_forward, packing), 1
        rows += made
        steps.append(-(-len(made) // size))
    return rows, steps


def _packed(rows: list[dict[str, Any]], tokens: int, packing: str) -> list[dict[str, Any]]:
    from datasets import Dataset
    from trl import pack_dataset

    return list(pack_dataset(Dataset.from_list(rows), tokens, packing))


def _trainer(job: Job, rows: list[dict[str, Any]], steps: int, packing: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc, unused-ignore] # untyped
        """Takes the rows as they come, so that all sides train on the same ones."""

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    training, lora = job.recipe["training"], job.recipe["lora"]
    is_packed = packing != "none"
    arguments = SFTConfig(
        output_dir=str(Path(sys.argv[1]).parent / f"trl-{packing}"),
        max_steps=steps,
        per_device_train_batch_size=1 if is_packed else training["batch_size"],
        gradient_accumulation_steps=1 if is_packed else training["gradient_accumulation"],
        learning_rate=training["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        optim=training["optimizer"],
        gradient_checkpointing=training["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=training["seed"],
        bf16=job.dtype == "bfloat16",
        fp16=job.dtype == "float16",
        use_cpu=job.device == "cpu",
        packing=is_packed,
        packing_strategy=packing if is_packed else "bfd",
        max_length=job.tokens_per_forward if is_packed else job.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="no",
        logging_steps=10**6,
        report_to="none",
        disable_tqdm=True,
    )
    return InOrder(
        model=_model(job),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job.base, local_files_only=True),
        peft_config=LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=lora["target_modules"],
            task_type="CAUSAL_LM",
        ),
    )


def _model(job: Job) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, job.dtype)
    quantization = job.recipe["quantization"]
    kinds = {
        "nf4": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": quantization["double"],
            "bnb_4bit_compute_dtype": dtype,
        },
        "int8": {"load_in_8bit": True},
    }
    kind = kinds.get(quantization["kind"])
    return AutoModelForCausalLM.from_pretrained(
        job.base,
        dtype=dtype,
        quantization_config=BitsAndBytesConfig(**kind) if kind else None,
        device_map={"": job.device},
        attn_implementation="sdpa",
        local_files_only=True,
    )


def _without_emulated_bf16(model: torch.nn.Module, dtype: str) -> None:
    """TRL makes QLoRA's factors bf16; where the device computes in fp32 these would be emulated."""
    for parameter in model.parameters():
        if parameter.requires_grad and dtype == "float32":
            parameter.data = parameter.data.float()


if __name__ == "__main__":
    main(*sys.argv[1:])
