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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import torch

from adapters.base import Base
from adapters.manifest import Manifest, RunRef
from adapters.registry import Entry, Registry
from training.checkpoint import weights_at
from training.data.dataset import PreparedDataset
from training.data.token_cache import OnProgress, load_tokenizer
from training.errors import TrainingFailed
from training.loop import Loop, ShouldStop
from training.model import adapter_state, compute_dtype, load_model, save_adapter, training_device
from training.plan import Plan, make_plan
from training.recipe import Recipe
from training.resume import resumable
from training.runs import Metric, Run, RunState, RunStatus, RunStore, process_started

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


def plan_training(
    base: Base, recipe: Recipe, dataset: PreparedDataset, on_progress: OnProgress | None = None
) -> Plan:
    """The plan for these three, with the base's own tokenizer; as :func:`make_plan`."""
    return make_plan(base, recipe, dataset, load_tokenizer(base.path), on_progress)


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
    device = training_device()
    identity = {**plan.identity, "compute dtype": _dtype_name(plan, device)}
    checkpoint = resumable(resume, identity, progress.note) if resume else None
    run = resume or runs.create(adapter, plan.recipe.toml(), environment())
    status = _Status(run, resume.status() if resume else _first_status(run, plan, adapter))
    with _recorded(status):
        torch.manual_seed(plan.recipe.training.seed)
        model = _load(plan, device)
        watched = _Watched(status, progress)
        loop = Loop(plan, model, run, identity, watched.metric, should_stop)
        if checkpoint is not None:
            run.drop_metrics_after(checkpoint.manifest.step)
            loop.resume(checkpoint)
            run.log(f"resumed at step {loop.step}")
        status.update(step=loop.step, **_best(loop))
        progress.began(run, plan, loop.step)
        if not loop.train():
            status.update(state="stopped", step=loop.step)
            run.log(f"stopped at step {loop.step}")
            return Outcome(run, status.current)
        _publish(loop, model, run, plan, progress)
        entry = registry.register(run.adapter, adapter, plan.base) if registry else None
        status.update(state="completed", digest=entry.digest if entry else None, **_best(loop))
        run.log("completed")
    return Outcome(run, status.current, entry)


def _dtype_name(plan: Plan, device: torch.device) -> str:
    return str(compute_dtype(plan.recipe.quantization.compute_dtype, device))


def _load(plan: Plan, device: torch.device) -> PeftModel:
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 by an old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        return load_model(plan.base, plan.recipe, device)


def _best(loop: Loop) -> dict[str, Any]:
    if loop.best is None:
        return {"best_step": None, "validation_nll": None}
    return {"best_step": loop.best[0], "validation_nll": loop.best[1]}


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


def _first_status(run: Run, plan: Plan, adapter: str) -> RunStatus:
    now = time.time()
    return RunStatus(
        id=run.id,
        state="running",
        adapter=adapter,
        base=plan.base.name,
        base_path=str(plan.base.path),
        dataset=plan.dataset.name,
        total_steps=plan.total_steps,
        started=now,
        updated=now,
        pid=os.getpid(),
        process_started=process_started(os.getpid()),
    )


class _Status:
    """The run's status, rewritten on each change; from here on the run is this process's."""

    def __init__(self, run: Run, status: RunStatus) -> None:
        self._run = run
        self.current = status
        pid = os.getpid()
        self.update(state="running", error=None, pid=pid, process_started=process_started(pid))

    def update(self, **changes: Any) -> None:
        self.current = msgspec.structs.replace(self.current, updated=time.time(), **changes)
        self._run.write_status(self.current)

    def end(self, state: RunState, error: str | None) -> None:
        """The last word on a run that broke off; said as well as the disk allows."""
        with suppress(OSError):
            self._run.log(f"{state}: {error or 'no reason known'}")
        with suppress(OSError):
            self.update(state=state, error=error)

    def log(self, message: str) -> None:
        self._run.log(message)


class _Watched:
    """Passes metrics on, and keeps status and log abreast of them."""

    def __init__(self, status: _Status, progress: Progress) -> None:
        self._status = status
        self._progress = progress

    def metric(self, metric: Metric) -> None:
        best, found = self._status.current.validation_nll, metric.validation_nll
        changes: dict[str, Any] = {"step": metric.step}
        if found is not None and (best is None or found < best):
            changes |= {"best_step": metric.step, "validation_nll": found}
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
        status.end("failed", f"out of memory: {error}")
        raise TrainingFailed(
            "The device ran out of memory. Start anew with half of training.batch_size and double "
            "training.gradient_accumulation: the result stays the same, a forward holds half as "
            f"much. A lower prompt.max_length helps too. ({error})"
        ) from error
    except KeyboardInterrupt:
        status.end("interrupted", None)
        raise
    except BaseException as error:
        status.end("failed", str(error) or type(error).__name__)
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


def _publish(loop: Loop, model: PeftModel, run: Run, plan: Plan, progress: Progress) -> None:
    """Write the adapter directory from the best checkpoint (the last, without validation)."""
    step = loop.best[0] if loop.best else loop.step
    try:
        weights = weights_at(run.checkpoints, step)
    except (OSError, ValueError) as error:
        step, weights = loop.step, adapter_state(model)
        progress.note(f"The best checkpoint cannot be used ({error}); publishing the last step.")
        run.log(f"the best checkpoint cannot be used: {error}; publishing step {step}")
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
