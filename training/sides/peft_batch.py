"""PEFT's own way of serving several adapters in one batch, for benchmarks to compare with.

The rows of a batch name their adapters (``adapter_names``), and transformers generates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from adapters.base import Base
from training.nn.model import compute_dtype, training_device


class PeftBatch:
    """``base`` with ``adapters`` (PEFT directories by name), in the dtype that suits the device.

    ``number_format`` says which that is; on a CPU without native bf16 it is fp32.
    """

    def __init__(self, base: Base, adapters: Mapping[str, Path]) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging

        self._device = training_device()
        dtype = compute_dtype("auto", self._device, base.architecture)
        self.number_format = str(dtype).removeprefix("torch.")
        transformers_logging.disable_progress_bar()
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.path, dtype=dtype, local_files_only=True
        )
        for name, path in adapters.items():
            if isinstance(model, PeftModel):
                model.load_adapter(path, adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, path, adapter_name=name)
        self._model = model.to(self._device).eval()
        model.generation_config.eos_token_id = None  # rows run to their full length

    def step_times(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str], steps: int
    ) -> list[float]:
        """Seconds that each of ``steps`` decode steps took; the prompts' own pass is left out.

        ``prompts``: token ids, all of one length. ``adapters``: the name for each row.
        """
        times: list[float] = []

        def clock(_tokens: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
            if self._device.type == "cuda":
                torch.cuda.synchronize()
            times.append(perf_counter())
            return torch.zeros(len(prompts), dtype=torch.bool, device=self._device)

        tokens = torch.tensor(prompts, device=self._device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                adapter_names=list(adapters),
                do_sample=False,
                max_new_tokens=steps + 1,
                stopping_criteria=[clock],
            )
        return [later - earlier for earlier, later in pairwise(times)]
