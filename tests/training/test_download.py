"""Downloads that fail, with the hub's own errors and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from training.download import download_base
from training.errors import DownloadFailed


class ConnectTimeout(errors.HTTPError):  # type: ignore[misc] # the hub does not re-export it
    """As the HTTP library raises it: often without a word."""


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no way out."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def test_an_impossible_name_is_refused_by_the_hubs_own_rule() -> None:
    """The real check, which runs before any connection."""
    with pytest.raises(DownloadFailed, match=r"'org/-model-' could not be downloaded: Repo id"):
        download_base("org/-model-")


def test_no_connection_is_said() -> None:
    """The hub's own sentence about it, up to its first line."""
    with pytest.raises(DownloadFailed, match="Cannot find an appropriate cached snapshot") as told:
        download_base("org/model")

    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectTimeout(""), "ConnectTimeout"),
        (ConnectTimeout("[Errno 111] Connection refused"), "[Errno 111] Connection refused"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError(), "OSError"),
        (errors.EntryNotFoundError("404 Client Error.\n\nmore"), "404 Client Error"),
    ],
)
def test_whatever_breaks_a_download_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """Also an error that says nothing."""
    failing(monkeypatch, error)

    with pytest.raises(DownloadFailed) as told:
        download_base("org/model")

    assert str(told.value).startswith(f"'org/model' could not be downloaded: {reason}. Check the")


def test_a_bug_is_no_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows itself."""
    failing(monkeypatch, ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        download_base("org/model")


def test_the_directory_is_returned_and_code_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only weights, tokenizer, configuration and template, of the top level."""
    asked: dict[str, Any] = {}

    def snapshot_download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)

    assert download_base("org/model") == tmp_path
    files = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "modeling.py",
        "pytorch_model.bin",
        "onnx/config.json",
    ]
    kept = huggingface_hub.utils.filter_repo_objects(
        files, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert list(kept) == files[:4]
