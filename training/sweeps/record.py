"""The record of a sweep: what it varies over what, and what came of each trial."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from adapters.manifest import BaseRef
from training.errors import SweepError
from training.recipe import Recipe, make_recipe
from training.sweeps.axis import plain
from training.sweeps.definition import Definition, Search
from training.sweeps.trials import Trials, sentence

HASH_DIGITS = 10
NAMED = 5  # trials in a message

_HASHES = ("weights_sha256", "tokenizer_sha256", "template_sha256")


class Outcome(msgspec.Struct, frozen=True):
    """How a trial ended, as its run's record had it; kept also when that is deleted.

    ``validation_nll`` (nats per token) is the lowest, of step ``best_step``.
    """

    state: Literal["completed", "failed"]
    run: str
    step: int
    total_steps: int
    validation_nll: float | None
    best_step: int | None
    seconds: float
    error: str | None = None


class TrialRecord(msgspec.Struct, frozen=True):
    """A trial: ``id`` is a hash of what makes it another than the others."""

    id: str
    values: dict[str, Any]
    outcome: Outcome | None = None


class Registered(msgspec.Struct, frozen=True):
    """Which trial was registered as the best, by which name, and what the registry made of it."""

    trial: str
    name: str
    digest: str


class SweepRecord(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="lccc-sweep/1"
):
    """What ``sweep.json`` holds.

    ``key`` is a hash of what all trials have in common, as it was when the sweep began. ``recipe``
    is that recipe, ``duplicates`` how many trials of the file were the same as another.
    """

    name: str
    key: str
    dataset: str
    dataset_sha256: str
    base: BaseRef
    recipe: dict[str, dict[str, Any]]
    search: Search
    trials: tuple[TrialRecord, ...]
    duplicates: int = 0
    registered: Registered | None = None

    @classmethod
    def of(
        cls, definition: Definition, found: Trials, dataset_sha256: str, base: BaseRef
    ) -> SweepRecord:
        """The record of a sweep that begins."""
        recipe = plain(definition.recipe)
        common = [recipe, dataset_sha256, *(getattr(base, name) for name in _HASHES)]
        key = hashlib.sha256(msgspec.json.encode(common, order="deterministic")).hexdigest()
        return cls(
            name=definition.name,
            key=key,
            dataset=definition.data,
            dataset_sha256=dataset_sha256,
            base=base,
            recipe=recipe,
            search=definition.search,
            trials=_trials(key, definition.recipe, found),
            duplicates=found.duplicates,
        )

    @property
    def common(self) -> Recipe:
        """The recipe that all trials have in common."""
        return make_recipe(self.recipe, f"the sweep '{self.name}'")

    def adapter(self, trial: TrialRecord) -> str:
        """What the adapter of ``trial`` is called in its run."""
        return f"{self.name}-{trial.id}"

    def best(self) -> TrialRecord | None:
        """The completed trial with the lowest validation loss; of equal ones, the first."""
        scored = [
            (trial.outcome.validation_nll, at)
            for at, trial in enumerate(self.trials)
            if trial.outcome
            and trial.outcome.state == "completed"
            and trial.outcome.validation_nll is not None
        ]
        return self.trials[min(scored)[1]] if scored else None

    def with_outcome(self, trial: TrialRecord, outcome: Outcome | None) -> SweepRecord:
        """The same with another ``outcome`` of ``trial``."""
        trials = tuple(
            TrialRecord(one.id, one.values, outcome) if one.id == trial.id else one
            for one in self.trials
        )
        return msgspec.structs.replace(self, trials=trials)

    def continued(
        self, definition: Definition, found: Trials, dataset_sha256: str, base: BaseRef
    ) -> SweepRecord:
        """The same sweep with the trials that the file has now, and the outcomes so far.

        Raises:
            SweepError: more than trials that were added has changed; the message shows what.
        """
        new = SweepRecord.of(definition, found, dataset_sha256, base)
        new = msgspec.structs.replace(
            new,
            key=self.key,
            trials=_trials(self.key, definition.recipe, found),
            registered=self.registered,
        )
        if changes := [*_changes(self, new), *_gone(self, new)]:
            listed = "\n".join(f"  {change}" for change in changes)
            raise SweepError(
                f"{definition.source}: the sweep '{self.name}' has begun with something else:\n"
                f"{listed}\nTrials may be added to it. For anything else put it back, or give the "
                "file another name."
            )
        outcomes = {trial.id: trial.outcome for trial in self.trials}
        trials = tuple(TrialRecord(one.id, one.values, outcomes.get(one.id)) for one in new.trials)
        return msgspec.structs.replace(new, trials=trials)


def _trials(key: str, common: Recipe, found: Trials) -> tuple[TrialRecord, ...]:
    made = []
    for trial in found.trials:
        content = [key, trial.changes(common)]
        digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
        made.append(TrialRecord(digest[:HASH_DIGITS], trial.values))
    return tuple(made)


def _changes(old: SweepRecord, new: SweepRecord) -> list[str]:
    """In what the trials of the two have something else in common."""
    changes = []
    if old.dataset_sha256 != new.dataset_sha256:
        changes.append(
            f"data: was {old.dataset} ({old.dataset_sha256[:12]}), "
            f"is {new.dataset} ({new.dataset_sha256[:12]})"
        )
    for name in _HASHES:
        was, now = getattr(old.base, name), getattr(new.base, name)
        if was != now:
            what = name.removesuffix("_sha256")
            changes.append(
                f"base, its {what}: was {old.base.name} ({was[:12]}), "
                f"is {new.base.name} ({now[:12]})"
            )
    before, now = (plain(one.common) for one in (old, new))
    return changes + [
        f"recipe, {section}.{field}: was {before[section][field]!r}, is {value!r}"
        for section, fields in now.items()
        for field, value in fields.items()
        if before[section][field] != value
    ]


def _gone(old: SweepRecord, new: SweepRecord) -> list[str]:
    """The trials of ``old`` that ``new`` has no more."""
    kept = {trial.id for trial in new.trials}
    gone = [trial for trial in old.trials if trial.id not in kept]
    lines = [f"no longer a trial: {sentence(trial.values)}" for trial in gone[:NAMED]]
    return lines + _more(gone)


def _more(gone: Sequence[TrialRecord]) -> list[str]:
    left = len(gone) - NAMED
    return [f"and {left} more"] if left > 0 else []
