"""Fetching a base from the hub into its ordinary cache."""

from __future__ import annotations

from training.errors import DownloadFailed

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja")


def download_base(name: str) -> None:
    """Download what loading needs: weights, tokenizer, configuration, template; no code.

    Raises:
        DownloadFailed: there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(name, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DownloadFailed(name, str(error).splitlines()[0]) from error
