"""Whole trainings on a tiny base: record, resume, failure, publication."""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import AdapterInvalid
from adapters.registry import Registry
from adapters.storage import Disk
from tests.training.conftest import MakePlan
from training.errors import NoRoom, RecipeError, ResumeRefused, RunBusy, TrainingFailed
from training.nn.model import summed_nll
from training.optimizer import Paging
from training.planning.plan import Plan
from training.recipe import decode_recipe
from training.runs import Event, EventLog, Kind, Run, RunStore
from training.runs.reader import read_events
from training.scores.validation import Validation
from training.train import Outcome, train


class Watcher:
    """A progress that remembers, and can ask to stop after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.run: Run | None = None
        self.began_at: int | None = None
        self.steps = 0
        self._stop_after = stop_after

    def began(self, run: Run, plan: Plan, step: int) -> None:
        self.run, self.began_at = run, step

    def event(self, event: Event) -> None:
        self.events.append(event)
        self.steps = event.step

    @property
    def warnings(self) -> list[str]:
        return [event.message or "" for event in self.events if event.kind == "warning"]

    def note(self, message: str) -> None:
        self.notes.append(message)

    def should_stop(self) -> bool:
        return self._stop_after is not None and self.steps >= self._stop_after


RunTraining = Callable[..., Outcome]


@pytest.fixture
def run_training(tmp_path: Path) -> RunTraining:
    """Train under ``tmp_path`` with a watcher."""

    def start(
        plan: Plan,
        watcher: Watcher | None = None,
        *,
        register: bool = True,
        resume: Run | None = None,
    ) -> Outcome:
        watcher = watcher or Watcher()
        return train(
            plan,
            "bot",
            runs=RunStore(tmp_path / "runs"),
            registry=Registry(tmp_path / "registry") if register else None,
            progress=watcher,
            should_stop=watcher.should_stop,
            resume=resume,
        )

    return start


def test_a_training_learns_records_and_registers(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """From plan to registered adapter: the loss falls, the record is whole, the best is served."""
    plan = make_plan("training.max_steps=12", "training.gradient_checkpointing=true")

    outcome = run_training(plan)

    run, status = outcome.run, outcome.status
    events = run.events()
    losses = [m.loss for m in events if m.kind == "train" and m.loss is not None]
    validations = [m.validation_nll for m in events if m.validation_nll is not None]
    assert status.state == "completed"
    assert status == run.status()
    assert [m.step for m in events if m.kind == "train"] == list(range(1, 13))
    assert losses[-1] < losses[0] - 0.5
    assert status.validation_nll == min(validations)
    assert decode_recipe(run.recipe_path.read_text(), "run") == plan.recipe
    assert "completed" in run.log_path.read_text()
    assert [(one.state, one.message) for one in events if one.kind == "status"] == [
        ("running", "started"),
        ("completed", None),
    ]
    saved = [one.path for one in events if one.kind == "checkpoint"]
    assert saved[-1] == "checkpoints/step-12"
    assert [one.seq for one in events] == list(range(1, len(events) + 1))

    entry = outcome.entry
    assert entry is not None
    assert entry == Registry(tmp_path / "registry").get("bot")
    manifest = entry.manifest
    assert manifest.run is not None
    assert (manifest.run.id, manifest.run.steps) == (run.id, status.best_step)
    assert manifest.system_prompt == "你是一个乐于助人的AI助手。"
    assert manifest.sampling.max_tokens == 100
    assert manifest.metrics == {"validation_nll": status.validation_nll}


def test_throughput_mode_says_what_it_changes_and_resumes_exactly(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """Fewer, larger steps at a higher rate; stopped and resumed it ends with the same weights."""
    fuller = (
        "training.mode=throughput",
        "training.tokens_per_forward=1500",
        "training.max_steps=20",
    )
    plan = make_plan(*fuller, "training.gradient_checkpointing=true")
    watcher = Watcher()

    straight = run_training(plan, watcher, register=False).run
    stopped = run_training(plan, Watcher(stop_after=2), register=False)
    resumed = run_training(plan, register=False, resume=stopped.run)

    assert stopped.status.state == "stopped"
    assert resumed.status.state == "completed"
    assert 2 < plan.total_steps < 20
    last = f"checkpoints/step-{plan.total_steps}/lora.safetensors"
    assert (straight.directory / last).read_bytes() == (resumed.run.directory / last).read_bytes()
    rates = {one.learning_rate for one in straight.events() if one.kind == "train"}
    assert rates == {0.01 * math.sqrt(plan.pace.dialogues_per_step / 4)}
    said = "\n".join(watcher.notes)
    assert f"{plan.pace.dialogues_per_step} dialogues a step instead of 4" in said


def test_a_training_that_gives_way_says_so_and_goes_on(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that does not fit is made anew; the record has it, and the result is the same."""
    plan = make_plan("training.max_steps=3", "training.gradient_checkpointing=auto")
    straight = run_training(plan, register=False).run
    forwards = iter(range(100))

    def short_of_memory(*given: Any) -> torch.Tensor:
        if next(forwards) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return summed_nll(*given)

    monkeypatch.setattr("training.execution.share.summed_nll", short_of_memory)

    outcome = run_training(plan, watcher := Watcher(), register=False)

    assert outcome.status.state == "completed"
    told = [one for one in outcome.run.events() if one.kind == "recomputation"]
    assert [one.recomputed_layers for one in told] == [0, 2]
    assert 0 < told[1].step <= 3
    (warning,) = watcher.warnings
    assert warning.startswith("A step did not fit into the memory and was made anew.")
    last = "checkpoints/step-3/lora.safetensors"
    ends = [(run.directory / last).read_bytes() for run in (straight, outcome.run)]
    assert ends[0] == ends[1]


def test_the_log_says_where_a_paged_optimizers_states_are(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU; elsewhere there is no choice, and nothing is said."""
    plan = make_plan("training.max_steps=1")
    silent = run_training(plan, register=False).run.log_path.read_text()
    monkeypatch.setattr(Paging, "of", lambda *_: Paging(2**20, 2**30))

    said = run_training(plan, register=False).run.log_path.read_text()

    assert "paged" not in silent
    assert (
        "paged_adamw_32bit: its states, 1 MiB, stay in the GPU's memory, unpaged; 1024 MiB are free"
    ) in said


def test_a_run_says_what_it_was_made_with(make_plan: MakePlan, run_training: RunTraining) -> None:
    """Inputs by hash, seeds, versions, hardware and command; the adapter by the hash of its files.

    Nothing in it names the user or the host.
    """
    plan = make_plan("training.max_steps=1")

    run = run_training(plan, register=False).run

    made_with = json.loads(run.environment_path.read_text())
    assert made_with["inputs"]["dataset"]["sha256"] == plan.dataset.manifest.sha256
    assert made_with["inputs"]["dataset"]["splits"].keys() == {"train", "validation", "test"}
    assert made_with["inputs"]["base"] == msgspec.to_builtins(plan.base.ref)
    assert made_with["inputs"]["recipe_sha256"] == plan.recipe.sha256
    assert made_with["seeds"]["training"] == plan.recipe.training.seed
    assert made_with["versions"]["torch"] == torch.__version__
    assert made_with["hardware"]["device"] == "cpu"
    assert made_with["command"]
    assert made_with["identity"]["batch"] == "2 x 2"
    (adapter,) = [one for one in run.events() if one.kind == "adapter"]
    assert adapter.files is not None
    assert adapter.files.keys() == {
        "adapter.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    weights = (run.adapter / "adapter_model.safetensors").read_bytes()
    assert adapter.files["adapter_model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_the_published_weights_are_those_of_the_best_step(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that gets worse after its best validation publishes the best, not the last."""
    measured = iter([5.0, 4.0, 6.0])
    monkeypatch.setattr(
        "training.execution.share.validate",
        lambda *_, **__: Validation(nll=next(measured), tokens=1, characters=1),
    )
    plan = make_plan("training.max_steps=9", "record.keep_checkpoints=1")

    outcome = run_training(plan, register=False)

    best = outcome.status.best_step
    assert best == 6
    published = load_file(outcome.run.adapter / "adapter_model.safetensors")
    checkpoint = load_file(outcome.run.checkpoints / f"step-{best}" / "lora.safetensors")
    last = load_file(outcome.run.checkpoints / "step-9" / "lora.safetensors")
    assert all(torch.equal(published[name], checkpoint[name]) for name in published)
    assert not all(torch.equal(published[name], last[name]) for name in published)


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, stopping in the middle of an epoch and resuming changes no bit (CPU), also
    where there is less memory then, and activations are computed again.
    """
    plan = make_plan("training.max_steps=8", "training.gradient_checkpointing=auto")
    straight = run_training(plan)
    stopped = run_training(plan, Watcher(stop_after=3))
    watcher = Watcher()
    monkeypatch.setattr("training.planning.recomputation.memory_left", lambda _: 2**30)

    resumed = run_training(plan, watcher, resume=stopped.run)

    assert stopped.status.state == "stopped"
    assert watcher.began_at == 3
    assert resumed.status.state == "completed"
    ends = [
        load_file(outcome.run.checkpoints / "step-8" / "lora.safetensors")
        for outcome in (straight, resumed)
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    losses = [
        [m.loss for m in outcome.run.events() if m.kind == "train"]
        for outcome in (straight, resumed)
    ]
    assert losses[0] == losses[1]
    numbers = [one.seq for one in read_events(resumed.run.events_path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [(one.state, one.step) for one in resumed.run.events() if one.kind == "status"] == [
        ("running", 0),
        ("stopped", 3),
        ("running", 3),
        ("completed", 8),
    ]
    assert resumed.status.best_step == straight.status.best_step
    assert resumed.status.validation_nll == straight.status.validation_nll
    told = [one for one in resumed.run.events() if one.kind == "recomputation"]
    assert [(one.step, one.recomputed_layers) for one in told] == [(0, 0), (3, 2)]
    assert "all 2 layers are computed again" in (told[1].message or "")


def test_logged_losses_do_not_depend_on_where_a_run_was_stopped(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """A mean over several steps is the same when the run was stopped among them."""
    plan = make_plan("training.max_steps=8", "record.log_every=4")
    straight = run_training(plan)
    stopped = run_training(plan, Watcher(stop_after=2))

    resumed = run_training(plan, resume=stopped.run)

    losses = [
        [(m.step, m.loss) for m in outcome.run.events() if m.kind == "train"]
        for outcome in (straight, resumed)
    ]
    assert losses[0] == losses[1]


def test_a_best_from_before_the_stop_stays_the_best(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status and manifest name the best step of the whole run, not of its resumed part."""
    measured = iter([1.0, 5.0, 6.0])
    monkeypatch.setattr(
        "training.execution.share.validate",
        lambda *_, **__: Validation(nll=next(measured), tokens=1, characters=1),
    )
    plan = make_plan("training.max_steps=9", "record.keep_checkpoints=1")
    stopped = run_training(plan, Watcher(stop_after=4))

    resumed = run_training(plan, resume=stopped.run)

    assert (resumed.status.best_step, resumed.status.validation_nll) == (3, 1.0)
    assert resumed.entry is not None
    assert resumed.entry.manifest.run is not None
    assert resumed.entry.manifest.run.steps == 3
    assert resumed.entry.manifest.metrics == {"validation_nll": 1.0}


def test_a_lost_best_is_replaced_by_the_last_step(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged best checkpoint costs the best weights, not the training; it is said."""
    plan = make_plan("training.max_steps=6")
    monkeypatch.setattr("training.publish.weights_at", damaged)
    watcher = Watcher()

    outcome = run_training(plan, watcher)

    assert outcome.status.state == "completed"
    assert any("cannot be used (torn)" in warning for warning in watcher.warnings)
    assert outcome.entry is not None
    assert outcome.entry.manifest.run is not None
    assert outcome.entry.manifest.run.steps == 6


def damaged(*_: object) -> None:
    """As a checkpoint that does not verify."""
    raise ValueError("torn")


def test_a_damaged_checkpoint_is_passed_over_on_resume(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """The newest usable one is taken, the damaged one is named, no step counts twice."""
    plan = make_plan("training.max_steps=8")
    stopped = run_training(plan, Watcher(stop_after=5))
    (stopped.run.checkpoints / "step-5" / "state.pt").write_bytes(b"torn")
    watcher = Watcher()

    resumed = run_training(plan, watcher, resume=stopped.run)

    assert watcher.began_at == 4
    assert any("step-5" in warning for warning in watcher.warnings)
    steps = [m.step for m in resumed.run.events() if m.kind == "train"]
    assert steps == list(range(1, 9))


def test_resume_with_another_geometry_is_refused_with_the_difference(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """A changed batch size would silently be another training; it is named and refused."""
    stopped = run_training(make_plan(), Watcher(stop_after=2))
    other = make_plan("training.batch_size=4")

    with pytest.raises(ResumeRefused, match="batch: was '2 x 2', is '4 x 2'"):
        run_training(other, resume=stopped.run)
    assert stopped.run.status() == stopped.status


def test_a_run_that_is_asked_to_stop_ends_with_a_checkpoint_and_goes_on(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """The request comes from another process, through the run's directory; resuming forgets it."""

    class Asked(Watcher):
        def event(self, event: Event) -> None:
            super().event(event)
            if event.kind == "train" and event.step == 3 and self.run is not None:
                Run(self.run.directory).ask_to_stop()

    watcher = Asked()
    stopped = run_training(make_plan(), watcher, register=False)

    assert (stopped.status.state, stopped.status.step) == ("stopped", 3)
    assert (stopped.run.checkpoints / "step-3").is_dir()
    assert watcher.notes == ["Asked to stop by `lccc-admin runs stop`: ending with a checkpoint …"]
    resumed = run_training(make_plan(), register=False, resume=stopped.run)
    assert resumed.status.state == "completed"


def test_a_complete_run_is_not_resumed(make_plan: MakePlan, run_training: RunTraining) -> None:
    """Its record and its adapter stay as they are."""
    plan = make_plan()
    done = run_training(plan)

    with pytest.raises(ResumeRefused, match="complete"):
        run_training(plan, resume=done.run)
    assert done.run.status() == done.status


def test_resume_without_a_whole_checkpoint_is_refused(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """Hours are not thrown away in silence: each is named with its damage."""
    stopped = run_training(make_plan(), Watcher(stop_after=2))
    for path in stopped.run.checkpoints.iterdir():
        (path / "state.pt").unlink()

    with pytest.raises(ResumeRefused, match=r"no usable checkpoint.*\n  step-2: "):
        run_training(make_plan(), resume=stopped.run)


def test_a_run_that_died_before_its_first_checkpoint_begins_again(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """In the same record, with the same weights in the end; but not with another recipe."""

    class Dying(Watcher):
        def event(self, event: Event) -> None:
            if event.kind == "train":
                raise KeyboardInterrupt

    runs = []
    for watcher in (Watcher(), Dying()):
        with suppress(KeyboardInterrupt):
            run_training(make_plan("training.max_steps=2"), watcher, register=False)
        runs.append(watcher.run)
    straight, died = runs
    assert died is not None
    assert died.status().state == "interrupted"
    with pytest.raises(ResumeRefused, match="seed: was '42', is '1'"):
        run_training(make_plan("training.max_steps=2", "training.seed=1"), resume=died)
    watcher = Watcher()

    run_training(make_plan("training.max_steps=2"), watcher, register=False, resume=died)

    assert watcher.warnings == ["There is no checkpoint yet; beginning again at step 0."]
    assert straight is not None
    assert [one.loss for one in died.events() if one.kind == "train"] == [
        one.loss for one in straight.events() if one.kind == "train"
    ]


def test_a_running_run_is_not_resumed(make_plan: MakePlan, run_training: RunTraining) -> None:
    """Two processes never write one run."""
    plan = make_plan()

    class Impatient(Watcher):
        refusal: RunBusy | None = None

        def began(self, run: Run, plan: Plan, step: int) -> None:
            try:
                run_training(plan, resume=run)
            except RunBusy as error:
                self.refusal = error

    watcher = Impatient()
    run_training(plan, watcher)

    assert "still running" in str(watcher.refusal)


def test_a_loss_that_is_not_finite_fails_the_run(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """A diverged training says at which step, keeps its checkpoints and registers nothing."""
    plan = make_plan("training.learning_rate=1e30", "training.max_grad_norm=1e30")

    with pytest.raises(TrainingFailed, match=r"step \d+: the loss .* is not finite"):
        run_training(plan)

    (run,) = RunStore(tmp_path / "runs").all()
    status = run.status()
    assert status.state == "failed"
    assert "not finite" in (status.error or "")
    assert run.events()[-1].message == status.error
    assert Registry(tmp_path / "registry").snapshot().entries == {}
    assert all(m.loss is not None for m in run.events() if m.kind == "train")


def test_a_second_interrupt_is_an_interruption_not_a_failure(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """A training that is broken off at once is resumable and not called failed."""

    class Abrupt(Watcher):
        def should_stop(self) -> bool:
            if self.steps >= 3:
                raise KeyboardInterrupt
            return False

    with pytest.raises(KeyboardInterrupt):
        run_training(make_plan(), Abrupt())

    (run,) = RunStore(tmp_path / "runs").all()
    assert run.status().state == "interrupted"
    assert run_training(make_plan(), resume=run).status.state == "completed"


def test_a_stop_within_the_last_validation_is_a_stop(
    make_plan: MakePlan, run_training: RunTraining
) -> None:
    """Nothing is published by an older loss, or by none; the validation is made up for later."""
    plan = make_plan("training.max_steps=3", "record.evaluate_every=3")

    stopped = run_training(plan, Watcher(stop_after=3))

    assert (stopped.status.state, stopped.status.step) == ("stopped", 3)
    assert (stopped.entry, stopped.status.validation_nll) == (None, None)

    resumed = run_training(plan, resume=stopped.run)

    assert resumed.status.state == "completed"
    assert (resumed.status.best_step, resumed.entry is not None) == (3, True)


@pytest.mark.parametrize("where", ["lora.safetensors", "state.pt", "manifest.json"])
def test_a_full_disk_fails_the_run_with_a_way_out(
    make_plan: MakePlan,
    run_training: RunTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """Whichever file no longer fits: the last good checkpoint stays, and the run resumes from it
    after making room.
    """
    plan = make_plan("training.max_steps=3")
    real = Disk.write
    written: list[str] = []

    def nearly_full(self: Disk, path: Path, blocks: Iterable[bytes]) -> None:
        written.append(path.name)
        if path.name == where and written.count(where) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, path, blocks)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "write", nearly_full)
        with pytest.raises(NoRoom, match=r"No space left.*step-2, is kept; make room"):
            run_training(plan, register=False)

    (run,) = RunStore(tmp_path / "runs").all()
    assert run.status().state == "failed"
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-2"]
    assert run_training(plan, register=False, resume=run).status.state == "completed"


def test_a_disk_too_full_for_the_record_fails_the_run(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured cannot be kept; the checkpoint before is."""
    real = EventLog.append

    def nearly_full(self: EventLog, kind: Kind, step: int, **values: Any) -> Event:
        if step == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, kind, step, **values)

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "append", nearly_full)
        with pytest.raises(NoRoom, match="step-2, is kept"):
            run_training(make_plan(), register=False)

    (run,) = RunStore(tmp_path / "runs").all()
    assert run.status().state == "failed"


def test_a_training_without_room_leaves_no_trace(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before the run exists."""
    monkeypatch.setattr("training.planning.space.RECORD_BYTES", 1 << 62)

    with pytest.raises(NoRoom, match="will need about"):
        run_training(make_plan())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("seam", "what"),
    [
        ("training.execution.share.validate", "The validation loss of step 3 is not finite"),
        ("training.execution.loop.adapter_state", "LoRA's weights of step 2 are not finite"),
    ],
)
def test_what_is_not_finite_is_neither_kept_nor_published(
    make_plan: MakePlan,
    run_training: RunTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seam: str,
    what: str,
) -> None:
    """A validation, and weights that are about to be saved."""
    broken: dict[str, Any] = {
        "training.execution.share.validate": Validation(nll=math.nan, tokens=1, characters=1),
        "training.execution.loop.adapter_state": {"a": torch.tensor([1.0, math.inf])},
    }
    monkeypatch.setattr(seam, lambda *_, **__: broken[seam])

    with pytest.raises(TrainingFailed, match=what):
        run_training(make_plan())

    (run,) = RunStore(tmp_path / "runs").all()
    assert run.status().state == "failed"
    assert not run.adapter.exists()
    assert all("3" not in path.name for path in run.checkpoints.iterdir())


def test_a_training_that_gets_no_better_ends_early(
    make_plan: MakePlan, run_training: RunTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as many validations without a gain as the recipe says, counted across a resumption;
    complete, with the reason in the record and the best step published.
    """
    measured = iter([5.0, 4.0, 4.5, 4.2])
    monkeypatch.setattr(
        "training.execution.share.validate",
        lambda *_, **__: Validation(nll=next(measured), tokens=1, characters=1),
    )
    plan = make_plan("training.max_steps=60", "training.early_stopping_patience=2")
    stopped = run_training(plan, Watcher(stop_after=10), register=False)

    outcome = run_training(plan, register=False, resume=stopped.run)

    assert stopped.status.state == "stopped"
    assert (outcome.status.state, outcome.status.step) == ("completed", 12)
    assert outcome.status.best_step == 6
    assert outcome.why_early == "no better validation loss than 4.0000 in 2 validations"
    assert outcome.run.events()[-1].message == f"ended early: {outcome.why_early}"
    assert (outcome.run.checkpoints / "step-12").is_dir()


@pytest.mark.parametrize(
    "overrides",
    [
        ("lora.kind=adalora", "adalora.every=1", "training.optimizer=adamw_8bit"),
        ("lora.plus_ratio=4", "training.neftune_alpha=5", "training.scheduler=cosine"),
    ],
)
def test_other_kinds_resume_exactly_and_are_served(
    make_plan: MakePlan, run_training: RunTraining, overrides: tuple[str, ...]
) -> None:
    """Stopped in the middle and resumed, the published weights are those of a straight training;
    what is registered is plain LoRA.
    """
    plan = make_plan(*overrides)
    straight = run_training(plan)
    stopped = run_training(plan, Watcher(stop_after=3))

    resumed = run_training(plan, resume=stopped.run)

    assert straight.entry is not None
    assert resumed.entry is not None
    ends = [
        load_file(outcome.run.adapter / "adapter_model.safetensors")
        for outcome in (straight, resumed)
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert resumed.entry.manifest.rank == next(iter(ends[0].values())).shape[0]


def test_the_schedule_moves_all_rates_alike(make_plan: MakePlan, run_training: RunTraining) -> None:
    """LoRA+'s B stays as many times faster than A, and what is recorded is the rate of A."""
    plan = make_plan("lora.plus_ratio=4", "training.scheduler=linear", "training.max_steps=2")

    run = run_training(plan, register=False).run

    state = torch.load(run.checkpoints / "step-2" / "state.pt", weights_only=True)
    rates = {group["lr"] for group in state["optimizer"]["param_groups"] if group["params"]}
    (_, last) = [one.learning_rate for one in run.events() if one.kind == "train"]
    assert last == pytest.approx(0.005)
    assert sorted(rates) == pytest.approx([0.005, 0.02])


def test_dora_is_trained_but_not_registered(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """It says so before the first step; the adapter lies in the run, for PEFT."""
    watcher = Watcher()

    outcome = run_training(make_plan("lora.kind=dora", "training.max_steps=2"), watcher)

    assert outcome.status.state == "completed"
    assert (outcome.entry, outcome.is_served) == (None, False)
    (warning,) = watcher.warnings
    assert "our server cannot serve the adapter, and it will not be registered" in warning
    assert watcher.events[0].message == warning
    weights = load_file(outcome.run.adapter / "adapter_model.safetensors")
    assert any("lora_magnitude_vector" in name for name in weights)
    assert Registry(tmp_path / "registry").snapshot().entries == {}
    with pytest.raises(AdapterInvalid, match="use_dora is true, but must be off"):
        Registry(tmp_path / "registry").register(outcome.run.adapter, "bot", make_plan().base)


def test_settings_that_do_not_go_together_leave_no_run(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """They are refused before anything is written."""
    with pytest.raises(RecipeError, match=r"training\.scheduler_options"):
        run_training(make_plan("training.scheduler=warmup_stable_decay"))
    assert not (tmp_path / "runs").exists()


def test_no_register_leaves_the_registry_alone(
    make_plan: MakePlan, run_training: RunTraining, tmp_path: Path
) -> None:
    """The adapter then lies in the run, and registers by hand."""
    plan = make_plan()
    outcome = run_training(plan, register=False)

    assert outcome.entry is None
    assert outcome.status.digest is None
    registry = Registry(tmp_path / "registry")
    assert registry.snapshot().entries == {}
    assert registry.register(outcome.run.adapter, "later", plan.base).name == "later"


def test_without_validation_the_last_step_is_published(
    make_plan: MakePlan, run_training: RunTraining, base: object, tmp_path: Path
) -> None:
    """A dataset too small for a validation split still trains and registers."""
    from training.data.dataset import prepare
    from training.train import plan_training

    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps([["你好", "好"], ["在吗", "在"]]))
    dataset = prepare([raw], "two", tmp_path / "datasets")
    plan = plan_training(make_plan().base, make_plan().recipe, dataset)
    assert len(plan.validation) == 0

    outcome = run_training(plan)

    assert outcome.status.state == "completed"
    assert outcome.status.validation_nll is None
    assert outcome.entry is not None
    assert outcome.entry.manifest.run is not None
    assert outcome.entry.manifest.run.steps == plan.total_steps
