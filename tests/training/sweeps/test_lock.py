"""One process conducts a sweep at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.errors import SweepBusy
from training.sweeps.lock import conducting, is_conducted


def test_a_second_one_is_refused_and_told_who_the_first_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards it is free again."""
    monkeypatch.setattr("adapters.storage.PROBES_S", 0.0)
    assert not is_conducted(tmp_path)

    with conducting(tmp_path):
        assert is_conducted(tmp_path)
        with (
            pytest.raises(
                SweepBusy, match=rf"running already \(process {os.getpid()}, or the trial"
            ),
            conducting(tmp_path),
        ):
            pass

    assert not is_conducted(tmp_path)
    with conducting(tmp_path):
        pass


def test_a_trial_that_outlives_its_conductor_holds_it_on(tmp_path: Path) -> None:
    """The handle is inherited; the kernel gives the lock back with the last who has it."""
    with conducting(tmp_path) as handle:
        trial = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(handle,)
        )

    assert is_conducted(tmp_path)
    trial.communicate(b"\n")
    assert not is_conducted(tmp_path)
