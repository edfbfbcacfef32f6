"""The environment is prepared before the heavy libraries are loaded."""

from __future__ import annotations

import pytest

from adapters.environment import go_offline, prepare_environment


def test_the_environment_is_set_but_not_overruled() -> None:
    """Spinning threads are off unless the user chose otherwise; the hub can still be asked."""
    chosen = {"GOMP_SPINCOUNT": "100"}
    empty: dict[str, str] = {}

    prepare_environment(chosen)
    prepare_environment(empty)

    assert chosen["GOMP_SPINCOUNT"] == "100"
    assert empty["GOMP_SPINCOUNT"] == "10000"
    assert "HF_HUB_OFFLINE" not in empty


def test_offline_reaches_a_library_that_is_already_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once the base is there, no look-up on a hub is made any more, whatever was set before."""
    from huggingface_hub import constants, is_offline_mode

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    environment = {"HF_HUB_OFFLINE": "0"}

    go_offline(environment)

    assert environment == {"HF_HUB_OFFLINE": "1"}
    assert is_offline_mode()
