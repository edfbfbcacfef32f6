"""The optimisation loop: steps, validation, checkpoints. It knows a run's record, not the CLI.

One optimiser step is the recipe's ``batch_size * gradient_accumulation`` dialogues, laid end to
end without padding in as few forwards as fit. The gradient is that of the mean over all target
tokens of the step, as padded accumulation would give it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from training.adalora import RankAllocation
from training.checkpoint import Checkpoint, prune_checkpoints, save_checkpoint
from training.data.encode import Example
from training.errors import TrainingFailed
from training.evaluate import validate
from training.journal import Journal
from training.memory import memory_in_use
from training.model import adapter_state, load_adapter_state, summed_nll, trainable
from training.optimizer import make_optimizer, schedule
from training.packing import packs
from training.patience import Patience
from training.plan import Plan
from training.replies import Replies
from training.resume import best_of
from training.runs.checkpoints import newest_first

if TYPE_CHECKING:
    from peft import PeftModel

ShouldStop = Callable[[], bool]


class _Window(msgspec.Struct):
    """What has been seen since the last line of the log. ``seconds`` counts steps only."""

    nll: float = 0.0
    targets: int = 0
    tokens: int = 0
    dialogues: int = 0
    seconds: float = 0.0


class Loop:
    """One training in progress. ``step`` counts finished optimiser steps.

    ``identity`` is what a resumed run must have in common with it; ``replies`` are recorded at each
    validation.
    """

    def __init__(
        self,
        plan: Plan,
        model: PeftModel,
        journal: Journal,
        identity: dict[str, str],
        should_stop: ShouldStop,
        replies: Replies | None = None,
    ) -> None:
        self._replies = replies
        self.plan = plan
        self.model = model
        self.run = journal.run
        self.step = 0
        self.best: tuple[int, float] | None = None
        self._identity = identity
        self._journal = journal
        self._should_stop = should_stop
        self._parameters = trainable(model)
        training = plan.recipe.training
        self._optimizer = make_optimizer(model, training, plan.recipe.lora.plus_ratio)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule = schedule(training, plan.total_steps)
        self._ranks = RankAllocation(model)
        # fp16 gradients underflow without a scale; for other dtypes the scaler does nothing
        self._scaler = torch.amp.GradScaler(
            model.device.type, enabled=model.get_base_model().dtype is torch.float16
        )
        self._window = _Window()
        self._saved_at: int | None = None
        self._patience = self._new_patience()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where ``checkpoint`` was written."""
        load_adapter_state(self.model, checkpoint.weights())
        state = checkpoint.state()
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._ranks.load(state["ranks"])
        self._window = _Window(**state["window"])
        _restore_random(state["random"])
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
        self._own_up_to_checkpoint()
        self.model.train()
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
        return True

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
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ranks": self._ranks.state(),
            "window": msgspec.to_builtins(self._window),
            "random": _random_state(),
        }

    def _prune(self) -> None:
        keep = self.plan.recipe.record.keep_checkpoints
        prune_checkpoints(self.run.checkpoints, keep, self.best[0] if self.best else None)

    def _one_step(self) -> None:
        started = time.monotonic()
        dialogues = self.plan.step_dialogues(self.step)
        examples = [example for dialogue in dialogues for example in dialogue]
        targets = sum(example.targets for example in examples)
        factor = self._schedule(self.step)
        self._learning_rate = self.plan.recipe.training.learning_rate * factor
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        nll = self._backward(examples, targets)
        self._update(nll / targets)
        self.step += 1
        window = self._window
        window.nll += nll
        window.targets += targets
        window.tokens += sum(len(example.ids) for example in examples)
        window.dialogues += len(dialogues)
        window.seconds += time.monotonic() - started

    def _backward(self, examples: list[Example], targets: int) -> float:
        """Add up the gradient of the mean over all targets; the summed loss in nats."""
        nll = 0.0
        for pack in packs(examples, self.plan.tokens_per_forward):
            loss = summed_nll(self.model, pack, self.plan.recipe.training.neftune_alpha)
            self._scaler.scale(loss / targets).backward()
            nll += loss.item()
        if self._ranks.is_on:
            self._scaler.scale(self._ranks.penalty()).backward()
        return nll

    def _update(self, loss: float) -> None:
        """Clip and step; a loss or gradient that is not finite ends the training."""
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self._parameters, self.plan.recipe.training.max_grad_norm
        ).item()
        is_skipped = self._scaler.is_enabled() and not math.isfinite(norm)  # the scale is lowered
        if not math.isfinite(loss) or not (math.isfinite(norm) or is_skipped):
            raise self._diverged(
                f"step {self.step + 1}: the loss ({loss}) or the gradient norm ({norm}) is"
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if not is_skipped:
            self._ranks.allocate(self.step + 1)
        self._optimizer.zero_grad(set_to_none=True)
        self._gradient_norm = norm

    def _diverged(self, what: str) -> TrainingFailed:
        good = newest_first(self.run.checkpoints)
        return TrainingFailed(
            f"{what} not finite. Start a new run with a lower training.learning_rate, or with "
            "quantization.compute_dtype=fp32. "
            + (f"The last good checkpoint, {good[0].name}, is kept." if good else "")
        )

    def _record(self) -> None:
        """Log, save and validate where the recipe says so, and at the end."""
        record = self.plan.recipe.record
        is_last = self.step == self.plan.total_steps
        if self.step % record.log_every == 0 or is_last or self.step == 1:
            self._log()
        if self.step % record.save_every == 0 or is_last:
            self.save()
        if self.step % record.evaluate_every == 0 or is_last:
            self._validate()

    def _owes_validation(self) -> bool:
        """Whether the run was cut off between a step and its validation."""
        record = self.plan.recipe.record
        is_due = self.step % record.evaluate_every == 0 or self.step == self.plan.total_steps
        return (
            self.step > 0
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
        found = validate(
            self.model,
            self.plan.validation,
            self.plan.validation_characters,
            should_stop=self._should_stop,
        )
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
        if self._replies and (said := self._replies.say(self.model)):
            self._journal.record("samples", self.step, samples=said)


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
