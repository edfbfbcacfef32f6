"""One training from start to adapter: record, load, loop, publish the best.

It is called by the command line and by the demo; everything a person sees goes through
``Progress``, everything that lasts goes into the run.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import torch

from adapters.base import Base
from adapters.manifest import Manifest, RunRef
from adapters.registry import Entry, Registry
from training.checkpoint import checkpoint_at, newest_checkpoint
from training.data.dataset import PreparedDataset
from training.errors import ResumeRefused, TrainingFailed
from training.loop import Loop, ShouldStop
from training.model import load_model, save_adapter, training_device
from training.plan import Plan, make_plan
from training.recipe import Recipe
from training.runs import Metric, Run, RunStatus, RunStore, process_started

if TYPE_CHECKING:
    from peft import PeftModel


class Progress(Protocol):
    """Whoever watches a training."""

    def began(self, run: Run, plan: Plan, step: int) -> None:
        """The model is loaded; ``step`` steps are already done (resumed)."""

    def metric(self, metric: Metric) -> None:
        """Something was measured or saved."""

    def note(self, message: str) -> None:
        """A sentence for the person who watches."""


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
        ResumeRefused: the run to resume does not match the plan, or is still running.
        AdapterInvalid: the result was refused by the registry.
    """
    run = resume or runs.create(adapter, plan.recipe.toml(), environment())
    if resume is not None:
        _refuse_active(resume)
    status = _Status(run, plan, adapter)
    with _recorded(status):
        torch.manual_seed(plan.recipe.training.seed)
        with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 by an old name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
            model = load_model(plan.base, plan.recipe, training_device())
        watched = _Watched(status, progress)
        loop = Loop(plan, model, run, watched.metric)
        if resume is not None:
            _resume(loop, run, progress)
            status.update(step=loop.step)
        progress.began(run, plan, loop.step)
        if not loop.train(should_stop):
            status.update(state="stopped", step=loop.step)
            run.log(f"stopped at step {loop.step}")
            return Outcome(run, status.current)
        loop.finish()
        _publish(loop, model, run, plan)
        entry = registry.register(run.adapter, adapter, plan.base) if registry else None
        status.update(state="completed", digest=entry.digest if entry else None)
        run.log("completed")
    return Outcome(run, status.current, entry)


def environment() -> dict[str, Any]:
    """What the run was made with: versions, machine, command. No names of users or hosts."""
    from importlib.metadata import version

    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "lccc-chat")
    device = training_device()
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_threads": torch.get_num_threads(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


class _Status:
    """The run's status, rewritten on each change."""

    def __init__(self, run: Run, plan: Plan, adapter: str) -> None:
        self._run = run
        now = time.time()
        self.current = RunStatus(
            id=run.id,
            state="running",
            adapter=adapter,
            base=plan.base.name,
            dataset=plan.dataset.name,
            total_steps=plan.total_steps,
            started=now,
            updated=now,
            pid=os.getpid(),
            process_started=process_started(os.getpid()),
        )
        run.write_status(self.current)

    def update(self, **changes: Any) -> None:
        self.current = msgspec.structs.replace(self.current, updated=time.time(), **changes)
        self._run.write_status(self.current)

    def log(self, message: str) -> None:
        self._run.log(message)


class _Watched:
    """Passes metrics on, and keeps status and log abreast of them."""

    def __init__(self, status: _Status, progress: Progress) -> None:
        self._status = status
        self._progress = progress

    def metric(self, metric: Metric) -> None:
        changes: dict[str, Any] = {"step": metric.step}
        best = self._status.current.validation_nll
        if metric.validation_nll is not None and (best is None or metric.validation_nll < best):
            changes |= {"best_step": metric.step, "validation_nll": metric.validation_nll}
        self._status.update(**changes)
        self._status.log(_line(metric))
        self._progress.metric(metric)


def _line(metric: Metric) -> str:
    values = msgspec.to_builtins(metric)
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if name not in ("kind", "time")
    )
    return f"{metric.kind}: {', '.join(shown)}"


@contextmanager
def _recorded(status: _Status) -> Iterator[None]:
    """Whatever breaks the training is written into its record before it goes on upwards."""
    try:
        with _quiet_libraries():
            yield
    except torch.OutOfMemoryError as error:
        status.update(state="failed", error="out of memory")
        raise TrainingFailed(
            "The device ran out of memory. Halve training.batch_size and double "
            "training.gradient_accumulation (the result stays the same), or lower "
            f"prompt.max_length, or set training.gradient_checkpointing=true. ({error})"
        ) from error
    except BaseException as error:
        status.update(state="failed", error=str(error) or type(error).__name__)
        status.log(f"failed: {error!r}")
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


def _refuse_active(run: Run) -> None:
    status = run.status()
    if status.is_active:
        raise ResumeRefused(f"The run {run.id} is still running (process {status.pid}).")


def _resume(loop: Loop, run: Run, progress: Progress) -> None:
    checkpoint, problems = newest_checkpoint(run.checkpoints)
    for problem in problems:
        progress.note(f"Skipped a damaged checkpoint: {problem}")
        run.log(f"skipped a damaged checkpoint: {problem}")
    if checkpoint is None:
        raise ResumeRefused(f"The run {run.id} has no usable checkpoint; start a new run.")
    loop.resume(checkpoint)
    run.drop_metrics_after(loop.step)
    run.log(f"resumed at step {loop.step}")


def _publish(loop: Loop, model: PeftModel, run: Run, plan: Plan) -> None:
    """Write the adapter directory from the best checkpoint (the last, without validation)."""
    step = loop.best[0] if loop.best else loop.step
    weights = checkpoint_at(run.checkpoints, step).weights()
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
        metrics={"validation_nll": loop.best[1]} if loop.best else {},
    )
    (run.adapter / "adapter.json").write_bytes(manifest.encoded())
