"""The optimisation loop: steps, validation, checkpoints. It knows a run's record, not the CLI.

One optimiser step is the recipe's ``batch_size * gradient_accumulation`` dialogues, laid end to
end without padding in as few forwards as fit. The gradient is that of the mean over all target
tokens of the step, as padded accumulation would give it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from training.checkpoint import Checkpoint, prune_checkpoints, save_checkpoint
from training.errors import ResumeRefused, TrainingFailed
from training.evaluate import Validation, validate
from training.model import adapter_state, load_adapter_state, summed_nll, trainable
from training.optimizer import learning_rate, make_optimizer
from training.packing import packs
from training.plan import Plan
from training.runs import Metric, Run

if TYPE_CHECKING:
    from peft import PeftModel

OnMetric = Callable[[Metric], None]
ShouldStop = Callable[[], bool]


@dataclass
class _Window:
    """What has been seen since the last line of the log."""

    nll: float = 0.0
    targets: int = 0
    tokens: int = 0
    dialogues: int = 0
    started: float = field(default_factory=time.monotonic)


class Loop:
    """One training in progress. ``step`` counts finished optimiser steps."""

    def __init__(self, plan: Plan, model: PeftModel, run: Run, on_metric: OnMetric) -> None:
        self.plan = plan
        self.model = model
        self.run = run
        self.step = 0
        self.best: tuple[int, float] | None = None
        self._on_metric = on_metric
        self._parameters = trainable(model)
        self._optimizer = make_optimizer(self._parameters, plan.recipe.training)
        self._window = _Window()
        self._saved_at: int | None = None

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where ``checkpoint`` was written.

        Raises:
            ResumeRefused: data, base, template or geometry differ from those of the run.
        """
        _refuse_difference(checkpoint.manifest.identity, self.plan.identity)
        load_adapter_state(self.model, checkpoint.weights())
        state = checkpoint.state()
        self._optimizer.load_state_dict(state["optimizer"])
        _restore_random(state["random"])
        manifest = checkpoint.manifest
        self.step = self._saved_at = manifest.step
        if manifest.best_step is not None and manifest.best_nll is not None:
            self.best = (manifest.best_step, manifest.best_nll)

    def train(self, should_stop: ShouldStop) -> bool:
        """Run to the end of the plan; false if ``should_stop`` ended it before (checkpointed).

        Raises:
            TrainingFailed: the loss or the gradient is no longer finite.
        """
        self.model.train()
        while self.step < self.plan.total_steps:
            if should_stop():
                self.save()
                return False
            self._one_step()
            self._record()
        return True

    def finish(self) -> Validation | None:
        """Validate and checkpoint the last step if that has not been done."""
        last = self._validate() if self._saved_at != self.step else None
        self.save()
        return last

    def save(self) -> None:
        """Checkpoint the current step, once."""
        if self._saved_at == self.step:
            return
        path = save_checkpoint(
            self.run.checkpoints,
            step=self.step,
            weights=adapter_state(self.model),
            state={"optimizer": self._optimizer.state_dict(), "random": _random_state()},
            identity=self.plan.identity,
            best=self.best,
        )
        self._saved_at = self.step
        prune_checkpoints(
            self.run.checkpoints,
            self.plan.recipe.record.keep_checkpoints,
            self.best[0] if self.best else None,
        )
        where = str(path.relative_to(self.run.directory))
        self._emit(Metric(kind="checkpoint", step=self.step, time=time.time(), path=where))

    def _one_step(self) -> None:
        examples = self.plan.step_examples(self.step)
        targets = sum(example.targets for example in examples)
        rate = learning_rate(self.plan.recipe.training, self.step, self.plan.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        nll = 0.0
        for pack in packs(examples, self.plan.tokens_per_forward):
            loss = summed_nll(self.model, pack)
            (loss / targets).backward()
            nll += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(
            self._parameters, self.plan.recipe.training.max_grad_norm
        ).item()
        if not (math.isfinite(nll) and math.isfinite(norm)):
            raise TrainingFailed(
                f"step {self.step + 1}: the loss ({nll / targets}) or the gradient norm ({norm}) "
                "is not finite. The last checkpoint is kept; a lower training.learning_rate or "
                "quantization.compute_dtype=fp32 usually helps."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._gradient_norm, self._learning_rate = norm, rate
        window = self._window
        window.nll, window.targets = window.nll + nll, window.targets + targets
        window.tokens += sum(len(example.ids) for example in examples)
        window.dialogues += self.plan.recipe.training.dialogues_per_step

    def _record(self) -> None:
        """Log, validate and save where the recipe says so."""
        record = self.plan.recipe.record
        is_last = self.step == self.plan.total_steps
        if self.step % record.log_every == 0 or is_last or self.step == 1:
            self._log()
        if self.step % record.evaluate_every == 0 and not is_last:
            self._validate()
        if self.step % record.save_every == 0 and not is_last:
            self.save()

    def _log(self) -> None:
        window, self._window = self._window, _Window()
        seconds = max(1e-9, time.monotonic() - window.started)
        self._emit(
            Metric(
                kind="train",
                step=self.step,
                time=time.time(),
                epoch=self.plan.epoch_at(self.step),
                loss=window.nll / window.targets,
                learning_rate=self._learning_rate,
                gradient_norm=self._gradient_norm,
                tokens_per_s=window.tokens / seconds,
                dialogues_per_s=window.dialogues / seconds,
            )
        )

    def _validate(self) -> Validation | None:
        """Measure; a new best is saved at once, so that it can be published later."""
        if not self.plan.validation:
            return None
        found = validate(self.model, self.plan.validation, self.plan.validation_characters)
        if math.isfinite(found.nll) and (self.best is None or found.nll_per_token < self.best[1]):
            self.best = (self.step, found.nll_per_token)
            self.save()
        self._emit(
            Metric(
                kind="evaluation",
                step=self.step,
                time=time.time(),
                epoch=self.plan.epoch_at(self.step),
                validation_nll=found.nll_per_token,
                validation_nll_per_character=found.nll_per_character,
            )
        )
        self._window.started = time.monotonic()
        return found

    def _emit(self, metric: Metric) -> None:
        self.run.append(metric)
        self._on_metric(metric)


def _refuse_difference(recorded: dict[str, str], current: dict[str, str]) -> None:
    changed = [
        f"  {name}: was {recorded.get(name)!r}, is {current.get(name)!r}"
        for name in sorted({*recorded, *current})
        if recorded.get(name) != current.get(name)
    ]
    if changed:
        listed = "\n".join(changed)
        raise ResumeRefused(
            f"The run cannot be resumed, because this differs from when it began:\n{listed}\n"
            "Put it back, or start a new run without --resume."
        )


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
