"""A sweep's record: what may change between two starts, and which trial is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.manifest import BaseRef
from tests.training.sweeps.writing import sweep
from training.errors import SweepError, SweepNotFound
from training.sweeps.definition import Definition
from training.sweeps.record import Outcome, SweepRecord
from training.sweeps.store import SweepStore
from training.sweeps.trials import expand

BASE = BaseRef("tiny", "w" * 64, "t" * 64, "c" * 64)
DATA = "d" * 64
GRID = {"lora.r": [4, 8], "training.epochs": [1.0, 2.0]}


def begun(definition: Definition) -> SweepRecord:
    return SweepRecord.of(definition, expand(definition), DATA, BASE)


def again(
    record: SweepRecord, definition: Definition, data: str = DATA, base: BaseRef = BASE
) -> SweepRecord:
    return record.continued(definition, expand(definition), data, base)


def completed(nll: float) -> Outcome:
    return Outcome("completed", "run", 6, 6, nll, 6, 1.0)


def test_the_same_file_has_the_same_trials_however_it_is_written(tmp_path: Path) -> None:
    """The order of fields and values and the spelling of names and numbers are no matter."""
    one = begun(sweep(tmp_path, GRID))
    other = begun(sweep(tmp_path, {"epochs": [2, 1], "r": [8, 4]}))

    assert {trial.id for trial in one.trials} == {trial.id for trial in other.trials}
    assert len({trial.id for trial in one.trials}) == 4
    assert again(one, sweep(tmp_path, {"epochs": [2, 1], "r": [8, 4]})).key == one.key


@pytest.mark.parametrize(
    "fields",
    [
        {"lora.r": [4, 16, 8], "training.epochs": [1.0, 2.0]},
        {"training.seed": [1, 42], **GRID},
    ],
    ids=["values", "a field with the recipe's own value"],
)
def test_trials_may_be_added(tmp_path: Path, fields: dict[str, Any]) -> None:
    """What was found out of the others stays."""
    record = begun(sweep(tmp_path, GRID))
    for trial in record.trials:
        record = record.with_outcome(trial, completed(len(trial.id)))

    grown = again(record, sweep(tmp_path, fields))

    kept = {trial.id for trial in grown.trials if trial.outcome}
    assert kept == {trial.id for trial in record.trials}
    assert len(grown.trials) > len(record.trials)


def test_more_draws_keep_the_first(tmp_path: Path) -> None:
    """A random search grows by its number of trials."""
    few = begun(sweep(tmp_path, {"lora.r": [4, 8, 16]}, search="random", trials=2, seed=3))

    more = again(few, sweep(tmp_path, {"lora.r": [4, 8, 16]}, search="random", trials=9, seed=3))

    assert {trial.id for trial in few.trials} <= {trial.id for trial in more.trials}


def test_what_else_has_changed_is_refused_with_the_difference(tmp_path: Path) -> None:
    """Data, base, recipe and lost trials, all at once, and what can be done."""
    record = begun(sweep(tmp_path, GRID))
    changed = sweep(
        tmp_path, {"lora.r": [4], "training.epochs": [1.0, 2.0]}, recipe={"lora": {"dropout": 0.0}}
    )

    with pytest.raises(SweepError) as refusal:
        again(record, changed, "e" * 64, msgspec.structs.replace(BASE, weights_sha256="v" * 64))

    assert str(refusal.value) == (
        f"{tmp_path / 'rank.toml'}: the sweep 'rank' has begun with something else:\n"
        "  data: was small (dddddddddddd), is small (eeeeeeeeeeee)\n"
        "  base, its weights: was tiny (wwwwwwwwwwww), is tiny (vvvvvvvvvvvv)\n"
        "  recipe, lora.dropout: was 0.1, is 0.0\n"
        "  no longer a trial: lora.r=8, training.epochs=1\n"
        "  no longer a trial: lora.r=8, training.epochs=2\n"
        "Trials may be added to it. For anything else put it back, or give the file another name."
    )


def test_the_best_has_the_lowest_loss_and_comes_first_of_equals(tmp_path: Path) -> None:
    """Failed trials do not count, whatever their loss was."""
    record = begun(sweep(tmp_path, GRID))
    failed = msgspec.structs.replace(completed(0.5), state="failed")
    assert record.best() is None

    for trial, outcome in zip(
        record.trials, (failed, completed(2.0), completed(1.0), completed(1.0)), strict=True
    ):
        record = record.with_outcome(trial, outcome)

    best = record.best()
    assert best is not None
    assert best.id == record.trials[2].id


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And one that is not there, or damaged, is said to be so."""
    store = SweepStore(tmp_path / "sweeps")
    record = begun(sweep(tmp_path, GRID))
    record = record.with_outcome(record.trials[1], completed(1.5))
    with pytest.raises(SweepNotFound, match="The sweep 'rank' has not begun"):
        store.get("rank")

    path = store.make_directory("rank") / "sweep.json"
    store.write(record)
    assert store.get("rank") == record

    path.write_text("{")
    with pytest.raises(SweepError, match=r"sweep\.json cannot be read"):
        store.get("rank")
