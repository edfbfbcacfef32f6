"""Libraries that talk between our own lines, and how to keep them from it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No weight-loading bars of transformers, and no known warnings that a user cannot act on."""
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    bitsandbytes_log = logging.getLogger("bitsandbytes")
    level = bitsandbytes_log.level
    bitsandbytes_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by an old name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
            yield
    finally:
        bitsandbytes_log.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()
