"""One training from start to adapter: record, load, loop, publish the best.

It is called by the command line and by the demo; everything a person sees goes through
``Progress``, everything that lasts goes into the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from adapters.base import Base
from adapters.registry import Entry, Registry
from training.data.dataset import PreparedDataset
from training.data.token_cache import load_tokenizer
from training.device_lock import device_held
from training.environment import environment
from training.execution.breakdown import recorded
from training.execution.follower import follow
from training.execution.group import ALONE, Group, Order
from training.execution.journal import Journal, Progress
from training.execution.loop import Loop
from training.execution.optimisation import ShouldStop
from training.execution.resume import resumable
from training.execution.share import Share
from training.nn.model import compute_dtype, load_model, training_device
from training.planning.feasibility import NOT_SERVED, check_feasible
from training.planning.plan import Plan, make_plan
from training.planning.recomputation import Recomputation
from training.planning.space import check_room
from training.publish import write_adapter
from training.quiet import quiet_libraries
from training.recipe import Recipe
from training.runs import Run, RunStatus, RunStore
from training.scores.sampling import Sampling
from training.stages import OnProgress, unheard
from training.trackers import Trackers

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    ``entry`` is set where the adapter was registered, ``why_early`` where the training ended before
    its last step. An adapter that is not ``is_served`` cannot be registered at all.
    """

    run: Run
    status: RunStatus
    entry: Entry | None = None
    why_early: str | None = None
    is_served: bool = True


def plan_training(
    base: Base,
    recipe: Recipe,
    dataset: PreparedDataset,
    on_progress: OnProgress = unheard,
    processes: int = 1,
) -> Plan:
    """The plan for these three, with the base's own tokenizer; as :func:`make_plan`."""
    return make_plan(base, recipe, dataset, load_tokenizer(base.path), on_progress, processes)


def train(  # noqa: PLR0913 - what a training may be told, by name
    plan: Plan,
    adapter: str,
    *,
    runs: RunStore,
    registry: Registry | None,
    progress: Progress,
    should_stop: ShouldStop = lambda: False,
    resume: Run | None = None,
    report_to: Sequence[str] = (),
    group: Group = ALONE,
    sweep: str | None = None,
) -> Outcome:
    """Train ``adapter`` by ``plan``, or go on with the run ``resume``; register it at the end.

    A trial of ``sweep`` is not registered, also where it is resumed: its sweep registers the best.
    ``report_to`` are names of :data:`training.trackers.TRACKERS`. This process is the first of
    ``group``; the others :func:`assist`, and are told the end when all went well.

    Raises:
        RecipeError: settings that do not go together with the data or the number of steps.
        TrackerFailed: one of ``report_to`` cannot be started.
        TrainingFailed: broken off; the run says so and keeps its checkpoints. As ``NoRoom`` also
            before anything is written: the disk would not suffice.
        DeviceBusy: another training is on the GPU.
        RunBusy, ResumeRefused: it runs elsewhere, or :func:`training.execution.resume.resumable`
            refuses; the run's record is untouched.
        AdapterInvalid: the result was refused by the registry.
    """
    check_feasible(plan)
    device = training_device()
    identity = _identity(plan, device)
    with device_held(device):
        check_room(plan, runs.root, resume)
        run = resume or runs.create(
            _first_status(plan, adapter, sweep), plan.recipe.toml(), environment(plan, identity)
        )
        with run.held(), ExitStack() as stack:
            checkpoint, remarks = resumable(run, identity) if resume else (None, [])
            journal = stack.enter_context(closing(Journal(run, run.status(), progress)))
            stack.enter_context(recorded(journal, plan))
            stack.enter_context(quiet_libraries())
            if journal.status.sweep:
                registry = None
            if registry and not plan.recipe.lora.is_served:
                registry = None
                remarks.append(NOT_SERVED)
            for remark in remarks:
                journal.warn(remark)
            if sentence := plan.pace.sentence(plan.recipe, plan.total_steps):
                journal.note(sentence)
            begun = checkpoint.manifest.step if checkpoint else 0
            journal.report_to(Trackers.open(report_to, run, plan.recipe, begun))
            again = Recomputation.decided(plan, device, neighbours=group.local_size)
            if again.is_notable:
                journal.note(again.sentence)
            model, stop = _load(plan, device, again), _Stop(journal, should_stop)
            sampling = Sampling(plan) if plan.recipe.record.sample_every else None
            loop = Loop(plan, model, journal, identity, again, stop, group, sampling)
            if checkpoint is not None:
                loop.resume(checkpoint)
            entry = None
            if loop.train():
                entry = _completed(loop, journal, adapter, registry)
            else:
                journal.end("stopped")
    group.announce(Order("end"))
    served = plan.recipe.lora.is_served
    return Outcome(run, journal.status, entry, loop.why_early, served)


def _completed(
    loop: Loop, journal: Journal, adapter: str, registry: Registry | None
) -> Entry | None:
    """Write the adapter, register it where there is a ``registry``, and end the record."""
    write_adapter(loop, journal)
    entry = registry.register(loop.run.adapter, adapter, loop.plan.base) if registry else None
    why = f"ended early: {loop.why_early}" if loop.why_early else None
    journal.end("completed", why, digest=entry.digest if entry else None)
    return entry


def assist(plan: Plan, group: Group) -> None:
    """Compute along with the first process of ``group``, which trains by the same ``plan``.

    Raises:
        DeviceBusy: another training is on this process's GPU.
    """
    device = training_device()
    with device_held(device), quiet_libraries():
        again = Recomputation.decided(plan, device, neighbours=group.local_size)
        follow(Share(plan, _load(plan, device, again), group), group)


class _Stop:
    """Asks the caller and the run's own directory whether the training is to end early."""

    def __init__(self, journal: Journal, should_stop: ShouldStop) -> None:
        self._journal = journal
        self._should_stop = should_stop
        self._has_said = False

    def __call__(self) -> bool:
        if self._journal.run.is_asked_to_stop() and not self._has_said:
            self._has_said = True
            self._journal.note(
                "Asked to stop by `lccc-admin runs stop`: ending with a checkpoint …"
            )
        return self._has_said or self._should_stop()


def _identity(plan: Plan, device: torch.device) -> dict[str, str]:
    """What a resumed run must have in common with its beginning, this machine's part included."""
    recipe = plan.recipe
    asked = recipe.quantization.compute_dtype
    dtype = str(compute_dtype(asked, device, plan.base.architecture))
    identity = {**plan.identity, "compute dtype": dtype}
    return identity | ({"adalora": str(recipe.adalora)} if recipe.lora.kind == "adalora" else {})


def _load(plan: Plan, device: torch.device, again: Recomputation) -> PeftModel:
    """The model with LoRA's weights as the seed draws them."""
    torch.manual_seed(plan.recipe.training.seed)
    return load_model(
        plan.base, plan.pace.recipe, device, plan.total_steps, recomputed_layers=again.layers
    )


def _first_status(plan: Plan, adapter: str, sweep: str | None) -> RunStatus:
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
        sweep=sweep,
    )
