"""Fetching a base from the hub into its ordinary cache."""

from __future__ import annotations

from pathlib import Path

from training.errors import DownloadFailed

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja")


def download_base(name: str) -> Path:
    """Download what loading needs: weights, tokenizer, configuration, template; no code.

    Returns the directory in the hub's cache.

    Raises:
        DownloadFailed: there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download

    # The root of the hub client's own HTTP library: httpx2's, or httpx's in the older releases.
    transport_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined] # no re-export
    try:
        found = snapshot_download(name, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"])
    except (
        transport_error,
        errors.HFValidationError,
        errors.EntryNotFoundError,
        OSError,
    ) as error:
        raise DownloadFailed(name, _reason(error)) from error
    return Path(found)


def _reason(error: Exception) -> str:
    """The first line of what it says; some errors of connections say nothing but their kind."""
    said = str(error).strip().partition("\n")[0]
    return said.rstrip(". ") or type(error).__name__
