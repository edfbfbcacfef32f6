"""From the best checkpoint of a training to an adapter directory."""

from __future__ import annotations

import shutil

from msgspec import UNSET

from adapters.manifest import CONFIG_FILE, MANIFEST_FILE, Manifest, RunRef
from adapters.peft_config import LoraSettings, survey_settings
from adapters.storage import sha256_of
from training.execution.checkpoint import weights_at
from training.execution.journal import Journal
from training.execution.loop import Loop
from training.nn.model import adapter_state, save_adapter
from training.planning.plan import Plan


def write_adapter(loop: Loop, journal: Journal) -> None:
    """Write the adapter directory from the best checkpoint (the last, without validation).

    Raises:
        OSError: it cannot be written; the checkpoints are kept.
    """
    run, best = journal.run, loop.best
    step = best[0] if best else loop.step
    try:
        weights = weights_at(run.checkpoints, step)
    except (OSError, ValueError) as error:
        step, weights = loop.step, adapter_state(loop.model)
        journal.warn(f"The best checkpoint cannot be used ({error}); publishing the last step.")
    shutil.rmtree(run.adapter, ignore_errors=True)
    save_adapter(loop.model, weights, run.adapter)
    metrics = {"validation_nll": best[1]} if best and best[0] == step else {}
    settings = survey_settings((run.adapter / CONFIG_FILE).read_bytes())[0]
    assert settings is not None, "PEFT's own config can be read"
    manifest = _manifest(loop.plan, settings, journal, step, metrics)
    (run.adapter / MANIFEST_FILE).write_bytes(manifest.encoded())
    files = {path.name: sha256_of(path)[1] for path in sorted(run.adapter.iterdir())}
    journal.record("adapter", loop.step, path=run.adapter.name, files=files)


def _manifest(
    plan: Plan, settings: LoraSettings, journal: Journal, step: int, metrics: dict[str, float]
) -> Manifest:
    return Manifest(
        base=plan.base.ref,
        rank=settings.r,
        alpha=settings.alpha,
        target_modules=plan.recipe.lora.target_modules,
        system_prompt=plan.recipe.prompt.system or None,
        sampling=plan.recipe.generation.defaults(),
        run=RunRef(
            id=journal.run.id,
            dataset=plan.dataset.name,
            dataset_sha256=plan.dataset.manifest.sha256,
            recipe_sha256=plan.recipe.sha256,
            steps=step,
            sweep=journal.status.sweep or UNSET,
        ),
        metrics=metrics,
    )
