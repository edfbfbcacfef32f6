"""One training from start to adapter: record, load, loop, publish the best.

It is called by the command line and by the demo; everything a person sees goes through
``Progress``, everything that lasts goes into the run.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from adapters.base import Base
from adapters.manifest import Manifest, RunRef
from adapters.registry import Entry, Registry
from adapters.storage import sha256_of
from training.checkpoint import weights_at
from training.data.dataset import PreparedDataset
from training.environment import environment
from training.errors import TrainingFailed
from training.journal import Journal, Progress
from training.loop import Loop, ShouldStop
from training.model import adapter_state, compute_dtype, load_model, save_adapter, training_device
from training.plan import Plan, make_plan
from training.recipe import Recipe
from training.resume import resumable
from training.runs import Run, RunStatus, RunStore

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Outcome:
    """How a training ended. ``entry`` is set where the adapter was registered."""

    run: Run
    status: RunStatus
    entry: Entry | None = None


def plan_training(base: Base, recipe: Recipe, dataset: PreparedDataset) -> Plan:
    """The plan for these three, with the base's own tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True)
    return make_plan(base, recipe, dataset, tokenizer)


def train(
    plan: Plan,
    adapter: str,
    *,
    runs: RunStore,
    registry: Registry | None,
    progress: Progress,
    should_stop: ShouldStop = lambda: False,
    resume: Run | None = None,
) -> Outcome:
    """Train ``adapter`` by ``plan``, or go on with the run ``resume``; register it at the end.

    Raises:
        TrainingFailed: broken off; the run says so and keeps its checkpoints.
        ResumeRefused: as :func:`training.resume.resumable`; the run's record is untouched.
        AdapterInvalid: the result was refused by the registry.
    """
    identity = {**plan.identity, "compute dtype": _dtype_name(plan, training_device())}
    run = resume or runs.create(
        _first_status(plan, adapter), plan.recipe.toml(), environment(plan, identity)
    )
    with run.held():
        checkpoint, remarks = resumable(run, identity) if resume else (None, ())
        with _journal(run, progress) as journal:
            for remark in remarks:
                journal.warn(remark)
            model = _load(plan)
            stop = _Stop(run, should_stop, journal.note)
            loop = Loop(plan, model, journal, identity, stop.is_asked)
            if checkpoint is not None:
                loop.resume(checkpoint)
            if not loop.train():
                journal.end("stopped")
                return Outcome(run, journal.status)
            _publish(loop, model, journal)
            entry = registry.register(run.adapter, adapter, plan.base) if registry else None
            journal.end("completed", digest=entry.digest if entry else None)
    return Outcome(run, journal.status, entry)


class _Stop:
    """Asks the caller and the run's own directory whether the training is to end early."""

    def __init__(self, run: Run, should_stop: ShouldStop, note: Callable[[str], None]) -> None:
        self._run = run
        self._should_stop = should_stop
        self._note = note
        self._has_said = False

    def is_asked(self) -> bool:
        if self._run.is_asked_to_stop() and not self._has_said:
            self._has_said = True
            self._note("Asked to stop by `lccc-admin runs stop`: ending with a checkpoint …")
        return self._has_said or self._should_stop()


def _dtype_name(plan: Plan, device: torch.device) -> str:
    return str(compute_dtype(plan.recipe.quantization.compute_dtype, device))


def _load(plan: Plan) -> PeftModel:
    """The model with LoRA's weights as the seed draws them."""
    torch.manual_seed(plan.recipe.training.seed)
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 by an old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        return load_model(plan.base, plan.recipe, training_device())


def _first_status(plan: Plan, adapter: str) -> RunStatus:
    now = time.time()
    return RunStatus(
        id="",
        state="running",
        adapter=adapter,
        base=plan.base.name,
        base_path=str(plan.base.path),
        dataset=plan.dataset.name,
        total_steps=plan.total_steps,
        started=now,
        updated=now,
        pid=os.getpid(),
    )


@contextmanager
def _journal(run: Run, progress: Progress) -> Iterator[Journal]:
    """The record of ``run``; whatever breaks the training is written there before it goes on."""
    with closing(Journal(run, run.status(), progress)) as journal, _ended(journal):
        yield journal


@contextmanager
def _ended(journal: Journal) -> Iterator[None]:
    try:
        with _quiet_libraries():
            yield
    except torch.OutOfMemoryError as error:
        journal.end("failed", f"out of memory: {error}")
        raise TrainingFailed(
            "The device ran out of memory. Start anew with half of training.batch_size and double "
            "training.gradient_accumulation: the result stays the same, a forward holds half as "
            f"much. A lower prompt.max_length helps too. ({error})"
        ) from error
    except KeyboardInterrupt:
        journal.end("interrupted")
        raise
    except BaseException as error:
        journal.end("failed", str(error) or type(error).__name__)
        raise


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """No weight-loading bars of transformers between our own lines."""
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    bitsandbytes_log = logging.getLogger("bitsandbytes")
    level = bitsandbytes_log.level
    bitsandbytes_log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        bitsandbytes_log.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _publish(loop: Loop, model: PeftModel, journal: Journal) -> None:
    """Write the adapter directory from the best checkpoint (the last, without validation)."""
    run, plan = journal.run, loop.plan
    step = loop.best[0] if loop.best else loop.step
    try:
        weights = weights_at(run.checkpoints, step)
    except (OSError, ValueError) as error:
        step, weights = loop.step, adapter_state(model)
        journal.warn(f"The best checkpoint cannot be used ({error}); publishing the last step.")
    shutil.rmtree(run.adapter, ignore_errors=True)
    save_adapter(model, weights, run.adapter)
    manifest = Manifest(
        base=plan.base.ref,
        rank=plan.recipe.lora.r,
        alpha=plan.recipe.lora.alpha,
        target_modules=plan.recipe.lora.target_modules,
        system_prompt=plan.recipe.prompt.system or None,
        sampling=plan.recipe.generation.defaults(),
        run=RunRef(
            id=run.id,
            dataset=plan.dataset.name,
            dataset_sha256=plan.dataset.manifest.sha256,
            recipe_sha256=plan.recipe.sha256,
            steps=step,
        ),
        metrics={"validation_nll": loop.best[1]} if loop.best and loop.best[0] == step else {},
    )
    (run.adapter / "adapter.json").write_bytes(manifest.encoded())
    files = {path.name: sha256_of(path)[1] for path in sorted(run.adapter.iterdir())}
    journal.record("adapter", loop.step, path=run.adapter.name, files=files)
