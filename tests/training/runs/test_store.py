"""The store of runs: made whole, found by id, listed, removed; one broken run hurts no other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.records import make_run, status
from training.errors import RunBusy, RunNotFound
from training.runs import Run, RunStore


def test_a_run_is_made_as_it_shall_stand(tmp_path: Path) -> None:
    """Its status, recipe and environment are there from the first moment, under its own id."""
    run = RunStore(tmp_path / "runs").create(status(adapter="bot"), "[lora]\n", {"seeds": 1})

    assert run.status() == status(id=run.id, adapter="bot")
    assert run.recipe_path.read_text() == "[lora]\n"
    assert run.environment_path.read_bytes() == b'{\n  "seeds": 1\n}'
    assert run.checkpoints.is_dir()
    assert run.events() == []


def test_a_run_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its files cannot be written there is no run, and nothing left of it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "write_status", full)

    with pytest.raises(OSError, match="No space"):
        make_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    """Not what may be in the making just now, and no run."""
    kept = make_run(tmp_path)
    for name in (".new-1", ".removed-1", ".new-2", ".other-1"):
        (tmp_path / name).mkdir()
        if name != ".new-2":
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    os.utime(kept.directory, (0, 0))

    made = make_run(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {kept.id, made.id, ".new-2", ".other-1"}


def test_two_runs_of_one_second_have_two_directories(tmp_path: Path) -> None:
    """Names never collide, and odd adapter names make plain directory names."""
    made = [make_run(tmp_path, adapter="a/b c") for _ in range(3)]
    hidden = make_run(tmp_path, adapter="..猫")

    assert len({one.id for one in made}) == 3
    assert all(one.directory.parent == tmp_path for one in made)
    assert all(one.id.startswith("a-b-c-") for one in made)
    assert {run.id for run in RunStore(tmp_path).all()} == {one.id for one in [*made, hidden]}


def test_runs_are_listed_newest_first_and_found_by_id(tmp_path: Path) -> None:
    """A store lists what has a status, and an unknown id names the newest."""
    store = RunStore(tmp_path)
    for started in (1.0, 3.0, 2.0):
        make_run(tmp_path, started=started)
    (tmp_path / "half").mkdir()

    listed = store.all()

    assert [one.status().started for one in listed] == [3.0, 2.0, 1.0]
    assert store.get(listed[1].id).directory == listed[1].directory
    with pytest.raises(RunNotFound, match=listed[0].id):
        store.get("nonsense")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format":"lccc-run/2"}', b'{"id":"\xff"}', None])
def test_a_broken_run_hurts_no_other(tmp_path: Path, content: bytes | None) -> None:
    """It is left out of the list and says what is wrong when asked for; the others are there."""
    store = RunStore(tmp_path)
    sound, broken = make_run(tmp_path), make_run(tmp_path, adapter="broken")
    (broken.directory / "status.json").unlink()
    if content is None:
        (broken.directory / "status.json").mkdir()
    else:
        (broken.directory / "status.json").write_bytes(content)

    assert [run.id for run in store.all()] == [sound.id]
    assert store.get(sound.id).status() == status(id=sound.id)
    with pytest.raises(RunNotFound, match=broken.id):
        store.get(broken.id).status()


def test_a_run_is_opened_without_reading_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    made = make_run(tmp_path)
    monkeypatch.setattr(RunStore, "all", lambda _: pytest.fail("the others were read"))

    assert RunStore(tmp_path).get(made.id).directory == made.directory


@pytest.mark.parametrize("run_id", ["", ".", "..", "../outside", "a/../../outside", "/outside"])
def test_an_id_never_leads_out_of_the_store(tmp_path: Path, run_id: str) -> None:
    """What lies beside the runs is no run."""
    make_run(tmp_path).directory.rename(tmp_path / "outside")
    (tmp_path / "runs" / "a").mkdir(parents=True)
    asked = str(tmp_path / "outside") if run_id.startswith("/") else run_id
    for place in (tmp_path, tmp_path / "runs"):
        (place / "status.json").write_bytes((tmp_path / "outside" / "status.json").read_bytes())

    with pytest.raises(RunNotFound, match="There is no run"):
        RunStore(tmp_path / "runs").get(asked)


def test_an_empty_store_is_empty(tmp_path: Path) -> None:
    """No directory is needed to list nothing."""
    assert RunStore(tmp_path / "none").all() == []


def test_a_removed_run_is_gone_with_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not while somebody trains it."""
    monkeypatch.setattr("adapters.storage.PROBES_S", 0.0)
    store = RunStore(tmp_path)
    run, other = make_run(tmp_path), make_run(tmp_path)

    with run.held(), pytest.raises(RunBusy):
        store.remove(run)
    assert run.recipe_path.is_file()
    store.remove(run)

    assert [path.name for path in tmp_path.iterdir()] == [other.id]
