"""The optimisation loop: steps, validation, checkpoints. It knows a run's record, not the CLI.

One optimiser step is the dialogues of the plan's pace (in exact mode ``batch_size *
gradient_accumulation``), laid end to end without padding in as few forwards as fit. The gradient is
that of the mean over all target tokens of the step, as padded accumulation would give it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from training.errors import TrainingFailed
from training.execution.checkpoint import Checkpoint, prune_checkpoints, save_checkpoint
from training.execution.group import Group
from training.execution.journal import Journal
from training.execution.optimisation import NotFinite, Optimisation, ShouldStop
from training.execution.patience import Patience
from training.execution.random_state import random_state, restore_random
from training.execution.resume import best_of
from training.memory import memory_in_use
from training.nn.model import adapter_state, load_adapter_state, recomputed_layers
from training.planning.plan import Plan
from training.planning.recomputation import Recomputation
from training.runs.checkpoints import newest_first
from training.scores.sampling import Sampling

if TYPE_CHECKING:
    from peft import PeftModel


class _Window(msgspec.Struct):
    """What has been seen since the last line of the log. ``seconds`` counts steps only."""

    nll: float = 0.0
    targets: int = 0
    tokens: int = 0
    dialogues: int = 0
    seconds: float = 0.0


class Loop:
    """One training in progress. ``step`` counts finished optimiser steps.

    ``identity`` is what a resumed run must have in common with it; ``recomputation`` is how the
    model was loaded; ``sampling`` asks the model where the recipe says so.
    """

    def __init__(
        self,
        plan: Plan,
        model: PeftModel,
        journal: Journal,
        identity: dict[str, str],
        recomputation: Recomputation,
        should_stop: ShouldStop,
        group: Group,
        sampling: Sampling | None,
    ) -> None:
        self.plan = plan
        self.model = model
        self.run = journal.run
        self.step = 0
        self.best: tuple[int, float] | None = None
        self._identity = identity
        self._recomputation = recomputation
        self._journal = journal
        self._should_stop = should_stop
        self._sampling = sampling
        self._optimisation = Optimisation(plan, model, group)
        if paging := self._optimisation.paging:
            self.run.log(paging.sentence(plan.recipe.training.optimizer))
        self._window = _Window()
        self._saved_at: int | None = None
        self._patience = self._new_patience()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where ``checkpoint`` was written."""
        load_adapter_state(self.model, checkpoint.weights())
        state = checkpoint.state()
        self._optimisation.load(state)
        self._window = _Window(**state["window"])
        restore_random(state["random"])
        self.step = self._saved_at = checkpoint.manifest.step
        self.best = best_of(self.run, self.step)
        self._patience = self._new_patience()

    def train(self) -> bool:
        """Run to the end of the plan; false if asked to stop before (checkpointed then).

        Raises:
            TrainingFailed: loss, gradient or weights are no longer finite.
            OSError: the record or a checkpoint cannot be written.
        """
        self._journal.best(*(self.best or (None, None)))
        self._journal.began(self.plan, self.step)
        self._tell_recomputation()
        self._own_up_to_checkpoint()
        self.model.train()
        self._optimisation.begin()
        if self._owes_validation():
            self._validate()
        while self.step < self.plan.total_steps and not self._patience.is_over:
            if self._should_stop():
                self.save()
                return False
            self._one_step()
            self._journal.alive(self.step)
            self._record()
        self.save()
        return not self._owes_validation()  # asked to stop in the midst of the last one

    @property
    def why_early(self) -> str | None:
        """Why it ended before the last step; ``None`` where it did not."""
        is_early = self.step < self.plan.total_steps and self._patience.is_over
        return self._patience.reason if is_early else None

    def save(self) -> None:
        """Checkpoint the current step, once.

        Raises:
            OSError: it cannot be written; older checkpoints are untouched.
            TrainingFailed: the weights are no longer finite, and are not kept.
        """
        if self._saved_at == self.step:
            return
        weights = adapter_state(self.model)
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise self._diverged(f"LoRA's weights of step {self.step} are")
        self._journal.sync()  # a checkpoint's events must not be lost when it is not
        save_checkpoint(
            self.run.checkpoints,
            step=self.step,
            weights=weights,
            state=self._state(),
            identity=self._identity,
        )
        self._saved_at = self.step
        self._prune()
        self._journal.record("checkpoint", self.step, path=f"checkpoints/step-{self.step}")

    def _own_up_to_checkpoint(self) -> None:
        """Record the checkpoint that is resumed from, if its process died before it could."""
        saved = (one.step for one in self.run.events() if one.kind == "checkpoint")
        if self._saved_at is not None and self._saved_at not in saved:
            path = f"checkpoints/step-{self._saved_at}"
            self._journal.record("checkpoint", self._saved_at, path=path)

    def _tell_recomputation(self) -> None:
        told = self._recomputation
        self._journal.record(
            "recomputation", self.step, recomputed_layers=told.layers, message=told.sentence
        )

    def _new_patience(self) -> Patience:
        """The patience that is left after the validations up to this step."""
        training = self.plan.recipe.training
        losses = [
            event.validation_nll
            for event in self.run.events()
            if event.validation_nll is not None and event.step <= self.step
        ]
        most, least_gain = training.early_stopping_patience, training.early_stopping_min_delta
        return Patience(most, least_gain, losses)

    def _state(self) -> dict[str, Any]:
        return {
            **self._optimisation.state(),
            "window": msgspec.to_builtins(self._window),
            "random": random_state(),
        }

    def _prune(self) -> None:
        keep = self.plan.pace.recipe.record.keep_checkpoints
        prune_checkpoints(self.run.checkpoints, keep, self.best[0] if self.best else None)

    def _one_step(self) -> None:
        started = time.monotonic()
        dialogues = self.plan.step_dialogues(self.step)
        examples = [example for dialogue in dialogues for example in dialogue]
        try:
            stepped = self._optimisation.step(self.step, examples)
        except NotFinite as error:
            raise self._diverged(f"{error} is") from error
        self._learning_rate, self._gradient_norm = stepped.learning_rate, stepped.gradient_norm
        self.step += 1
        if recomputed_layers(self.model) != self._recomputation.layers:
            self._recomputation = self._recomputation.given_way(self.plan)
            self._journal.warn(self._recomputation.sentence)
            self._tell_recomputation()
        window = self._window
        window.nll += stepped.nll
        window.targets += stepped.targets
        window.tokens += sum(len(example.ids) for example in examples)
        window.dialogues += len(dialogues)
        window.seconds += time.monotonic() - started

    def _diverged(self, what: str) -> TrainingFailed:
        good = newest_first(self.run.checkpoints)
        return TrainingFailed(
            f"{what} not finite. Start a new run with a lower training.learning_rate, or with "
            "quantization.compute_dtype=fp32. "
            + (f"The last good checkpoint, {good[0].name}, is kept." if good else "")
        )

    def _record(self) -> None:
        """Log, save and validate where the recipe says so, and at the end."""
        record = self.plan.pace.recipe.record
        is_last = self.step == self.plan.total_steps
        if self.step % record.log_every == 0 or is_last or self.step == 1:
            self._log()
        if self.step % record.save_every == 0 or is_last:
            self.save()
        if self.step % record.evaluate_every == 0 or is_last:
            self._validate()
        if self._sampling and (self.step % record.sample_every == 0 or is_last):
            self._sample(self._sampling)

    def _sample(self, sampling: Sampling) -> None:
        found = sampling.ask(self.model)
        self._journal.record(
            "samples",
            self.step,
            epoch=self.plan.epoch_at(self.step),
            scores=found.scores,
            replies=found.replies,
        )

    def _owes_validation(self) -> bool:
        """Whether the run was cut off between a step and its validation."""
        record = self.plan.pace.recipe.record
        is_due = self.step % record.evaluate_every == 0 or self.step == self.plan.total_steps
        return (
            bool(self.plan.validation)
            and self.step > 0
            and is_due
            and not any(
                one.kind == "evaluation" and one.step == self.step for one in self.run.events()
            )
        )

    def _log(self) -> None:
        window, self._window = self._window, _Window()
        self._journal.record(
            "train",
            self.step,
            epoch=self.plan.epoch_at(self.step),
            loss=window.nll / window.targets,
            learning_rate=self._learning_rate,
            gradient_norm=self._gradient_norm,
            tokens_per_s=window.tokens / window.seconds,
            dialogues_per_s=window.dialogues / window.seconds,
            memory_bytes=memory_in_use(self.model.device),
        )

    def _validate(self) -> None:
        """Measure; the checkpoint of a new best is kept, so that it can be published later."""
        if not self.plan.validation:
            return
        found = self._optimisation.validation(self._should_stop)
        if found is None:
            return
        if not math.isfinite(found.nll):
            raise self._diverged(f"The validation loss of step {self.step} is")
        self._patience.add(found.nll_per_token)
        if self.best is None or found.nll_per_token < self.best[1]:
            self.best = (self.step, found.nll_per_token)
            self.save()
        self._journal.best(*(self.best or (None, None)))
        self._journal.record(
            "evaluation",
            self.step,
            epoch=self.plan.epoch_at(self.step),
            validation_nll=found.nll_per_token,
            validation_nll_per_character=found.nll_per_character,
        )
