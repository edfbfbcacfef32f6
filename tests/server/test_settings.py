"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.home import Home
from server.settings import ServerSettings, SettingsInvalid


def test_the_defaults_are_safe(tmp_path: Path) -> None:
    """Loopback only, and nothing is taken from an empty environment but home."""
    settings = ServerSettings.from_environment({"LCCC_HOME": str(tmp_path)})

    assert settings == ServerSettings(home=Home(tmp_path))
    assert settings.is_loopback
    assert not settings.allow_unauthenticated


def test_values_are_read_by_their_names(tmp_path: Path) -> None:
    """Numbers, lists and switches; empty values count as not given."""
    settings = ServerSettings.from_environment(
        {
            "LCCC_HOME": str(tmp_path),
            "LCCC_BASE": "Qwen/Qwen3-0.6B",
            "LCCC_PORT": "9000",
            "LCCC_MAX_RUNNING": "8",
            "LCCC_MAX_CONTEXT": "",
            "LCCC_WEIGHTS": "bf16",
            "LCCC_ALLOWED_HOSTS": "a.example, b.example,",
            "LCCC_ADAPTER_ROOTS": os.pathsep.join(["/a b", "~/c", ""]),
            "LCCC_ADMIN_KEY": "secret",
            "LCCC_ALLOW_UNAUTHENTICATED": "1",
            "LCCC_DRAIN_TIMEOUT_S": "2.5",
            "PATH": "/bin",
        }
    )

    assert settings == ServerSettings(
        home=Home(tmp_path),
        base="Qwen/Qwen3-0.6B",
        port=9000,
        max_running=8,
        weights="bf16",
        allowed_hosts=("a.example", "b.example"),
        adapter_roots=(Path("/a b"), Path.home() / "c"),
        admin_key="secret",
        allow_unauthenticated=True,
        drain_timeout_s=2.5,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LCCC_PORT", "http"),
        ("LCCC_PORT", "70000"),
        ("LCCC_MAX_RUNNING", "0"),
        ("LCCC_WEIGHTS", "int3"),
        ("LCCC_DEVICE", "tpu"),
        ("LCCC_PING_INTERVAL_S", "-1"),
        ("LCCC_API_KEY", "a b"),
        ("LCCC_ADMIN_KEY", "a b"),
        ("LCCC_API_KEY", "键"),
    ],
)
def test_an_impossible_value_is_named(name: str, value: str) -> None:
    """The message says which variable to change."""
    with pytest.raises(SettingsInvalid, match=name):
        ServerSettings.from_environment({name: value})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("Localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("my-machine", False),
    ],
)
def test_loopback_is_recognised(tmp_path: Path, host: str, expected: bool) -> None:
    """Only addresses that nobody else can reach count."""
    assert ServerSettings(home=Home(tmp_path), host=host).is_loopback is expected
