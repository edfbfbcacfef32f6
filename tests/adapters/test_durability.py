"""The registry when processes die, disks fill and many write at once: old or new, never half."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.base import Base
from adapters.errors import AdapterError
from adapters.manifest import MANIFEST_FILE, WEIGHTS_FILE
from adapters.registry import Registry
from adapters.storage import Disk
from tests.adapters.disks import Crash, CrashingDisk, FullDisk, NotingDisk, QuickDisk
from tests.tiny import random_adapter

Operation = Callable[[Registry], object]
REPOSITORY = Path(__file__).parents[2]


class Scene:
    """A registry to start from, what is done to it, and the two states it may be left in.

    A state is name → bytes of the weights, or ``None`` for a name that is broken.
    """

    def __init__(
        self, start: Path, operation: Operation, where: Path, *, fewest_steps: int
    ) -> None:
        self.fewest_steps = fewest_steps
        self.start = start
        self.operation = operation
        self.where = where
        self.old = state(Registry(start))
        goal = self.copy("goal")
        operation(Registry(goal, QuickDisk()))
        self.new = state(Registry(goal))

    def copy(self, name: str) -> Path:
        target = self.where / name
        if target.exists():
            shutil.rmtree(target)
        return shutil.copytree(self.start, target)

    def check_on(self, disk: Disk, expected: type[BaseException]) -> bool:
        """Run on a failing disk, look, run again on a good one, look again; whether it failed."""
        root = self.copy("try")
        try:
            self.operation(Registry(root, disk))
        except expected:
            failed = True
        else:
            failed = False
        left = state(Registry(root))
        assert left in (self.old, self.new)
        assert failed or left == self.new

        before = Registry(root).signature()[0]
        self.operation(Registry(root, QuickDisk()))
        assert state(Registry(root)) == self.new
        assert Registry(root).signature()[0] >= before
        self.check_clean(root)
        return failed

    @staticmethod
    def check_clean(root: Path) -> None:
        """After a collection nothing is left of what went wrong."""
        Registry(root, QuickDisk()).collect_garbage(grace_s=0)
        used = {entry.path for entry in Registry(root).snapshot().entries.values()}
        assert set(root.glob("blobs/sha256/*/*")) == used
        assert list((root / "staging").iterdir()) == []
        assert not list(root.rglob("*.tmp"))


def state(registry: Registry) -> dict[str, bytes | None]:
    snapshot = registry.snapshot()
    whole: dict[str, bytes | None] = {}
    for name, entry in snapshot.entries.items():
        whole[name] = None if registry.verify(name) else entry.read(WEIGHTS_FILE)
    return whole | dict.fromkeys(snapshot.broken)


@pytest.fixture
def source(tmp_path: Path, base: Base) -> Path:
    return random_adapter(tmp_path / "source", base.path, targets=("q_proj",))


@pytest.fixture
def other(tmp_path: Path, base: Base) -> Path:
    return random_adapter(tmp_path / "other", base.path, targets=("q_proj",), seed=1)


@pytest.fixture(params=["first", "replace", "same", "heal", "remove", "collect"])
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, base: Base, source: Path, other: Path
) -> Scene:
    start = tmp_path / "start"
    registry = Registry(start)
    if request.param != "first":
        registry.register(other, "bystander", base)
        poet = registry.register(source, "poet", base)
    if request.param == "heal":
        damaged = poet.path / WEIGHTS_FILE
        damaged.unlink()
        damaged.write_bytes(b"\0" * poet.manifest.files[1].size)
    if request.param == "collect":
        registry.remove("poet")
    start.mkdir(exist_ok=True)
    operations: dict[str, tuple[Operation, int]] = {
        "first": (lambda registry: registry.register(source, "poet", base), 30),
        "replace": (lambda registry: registry.register(other, "poet", base), 20),
        "same": (lambda registry: registry.register(source, "poet", base), 20),
        "heal": (lambda registry: registry.register(source, "poet", base), 20),
        "remove": (lambda registry: "poet" in state(registry) and registry.remove("poet"), 7),
        "collect": (lambda registry: registry.collect_garbage(grace_s=0), 4),
    }
    operation, fewest_steps = operations[request.param]
    return Scene(start, operation, tmp_path, fewest_steps=fewest_steps)


class TestAfterEveryStep:
    """Each operation is broken off after its 0th, 1st, 2nd … step on the disk."""

    def test_a_crash_leaves_the_old_state_or_the_new(self, scene: Scene):
        """Nothing half-published is visible, the same command then succeeds, nothing stays."""
        crashes = 0
        while scene.check_on(CrashingDisk(survived=crashes), Crash):
            crashes += 1
        assert crashes >= scene.fewest_steps

    def test_a_full_disk_is_an_expected_error(self, scene: Scene):
        """The user is told, and the state is as after a crash: old or new."""
        failures = 0
        for failing in itertools.count():
            disk = FullDisk(failing)
            failures += scene.check_on(disk, AdapterError)
            if disk.steps <= failing:  # it has fewer steps than that
                break
        assert failures >= scene.fewest_steps - 2  # two may fail unnoticed: a mark, a clean-up


def test_a_killed_process_leaves_nothing_locked_and_nothing_half(
    tmp_path: Path, base: Base, source: Path, other: Path
):
    """SIGKILL at several points of replacing; another process then succeeds at once."""
    root = tmp_path / "registry"
    Registry(root).register(source, "poet", base)
    old, new = ((path / WEIGHTS_FILE).read_bytes() for path in (source, other))
    for survived, left in {1: old, 5: old, 13: old, 15: old, 16: old, 18: new}.items():
        command = [sys.executable, "-m", "tests.adapters.writer", "die_after"]
        arguments = [str(root), str(base.path), str(other), str(survived)]
        killed = subprocess.run([*command, *arguments], cwd=REPOSITORY, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert state(Registry(root)) == {"poet": left}

    Registry(root).register(other, "poet", base)
    assert state(Registry(root)) == {"poet": new}
    Scene.check_clean(root)


def test_what_a_name_points_to_is_durable_before_the_name(tmp_path: Path, base: Base, source: Path):
    """After a power cut no record can be there without all that it stands for: every file and
    directory is synced after its last change and before the step that makes it visible.
    """
    disk = NotingDisk()
    root = tmp_path / "registry"
    digest = Registry(root, disk).register(source, "poet", base).digest
    blob = root / "blobs" / "sha256" / digest[:2] / digest

    def at(name: str, path: Path, argument: int = 0) -> int:
        return max(
            index
            for index, (step, arguments) in enumerate(disk.notes)
            if step == name and arguments[argument] == path
        )

    to_blob = at("rename", blob, 1)
    staging = disk.notes[to_blob][1][0]
    to_name = at("rename", root / "names" / "poet.json", 1)
    to_signal = at("rename", root / "GENERATION", 1)
    for file in blob.iterdir():
        assert at("write", staging / file.name) < at("sync", staging / file.name) < to_blob
    assert at("write", staging / MANIFEST_FILE) < at("sync", staging) < to_blob
    assert to_blob < at("sync", blob.parent) < to_name
    for rename in (to_name, to_signal):
        temporary = disk.notes[rename][1][0]
        assert at("write", temporary) < at("sync", temporary) < rename
    assert to_name < at("sync", root / "names") < to_signal < at("sync", root)
    for made in [path for name, (path, *_) in disk.notes if name == "make_directory"]:
        if made != staging:
            assert at("make_directory", made) < at("sync", made.parent)
            assert disk.notes.index(("sync", (made.parent,))) < to_name


def test_many_writers_and_a_reader(tmp_path: Path, base: Base, source: Path, other: Path):
    """Three processes register, remove and collect at once: every look sees whole adapters, no
    generation goes back, and no change is lost.
    """
    root, changes = tmp_path / "registry", 20
    command = [sys.executable, "-m", "tests.adapters.writer", "churn", str(root), str(base.path)]
    writers = [
        subprocess.Popen(
            [*command, str(seed), str(changes), str(source), str(other)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    registry, latest, looks = Registry(root), dict.fromkeys("abc", 0), 0
    while any(writer.poll() is None for writer in writers):
        snapshot = registry.snapshot()
        assert snapshot.broken == {}
        for name, entry in snapshot.entries.items():
            assert entry.generation >= latest[name]
            latest[name] = entry.generation
        looks += 1
    said = [writer.communicate() for writer in writers]

    assert [errors for _, errors in said] == ["", "", ""]
    made = [int(count) for count, _ in said]
    assert looks > 10
    assert registry.signature()[0] == sum(made) == 3 * changes
    assert all(weights is not None for weights in state(registry).values())
    Scene.check_clean(root)
