"""Compiling kernels side by side, before any of them is launched.

Triton compiles a kernel where it is launched, so one waits for the other. Most of that is done
without Python's lock, and in processes of their own: threads compile as many at once as there are
processors. What comes of it lies in Triton's memory and in its cache on disk, where launches look.

Nothing relies on it. Whatever is not found there, because it failed here, because it was not asked
for, or because another version of Triton does not say what it would compile, is compiled where it
is launched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from time import perf_counter
from typing import Any

import triton
from triton import knobs

from adapters.environment import processors

logger = logging.getLogger(__name__)


def precompile(play: Callable[[], None]) -> None:
    """See :class:`server.engine.cuda.step.Kernels`."""
    begun_s = perf_counter()
    asked = _asked_by(play)
    if not asked:
        return
    threads = min(processors(), len(asked))
    logger.info(
        "Preparing %d kernels, %d at a time: those that are new to this GPU are compiled, once.",
        len(asked),
        threads,
    )
    try:
        errors = _compile_all(asked, threads)
    except Exception as error:  # noqa: BLE001 - whatever it is, an engine can do without
        errors = [error] * len(asked)
    took_s = perf_counter() - begun_s
    if errors:
        logger.warning(
            "%d of %d kernels could not be prepared (%s): each is compiled when it is launched.",
            len(errors),
            len(asked),
            type(errors[0]).__name__,
        )
    logger.info("%d kernels prepared in %.1f s.", len(asked) - len(errors), took_s)


def _asked_by(play: Callable[[], None]) -> dict[str, Any]:
    """What ``play`` would have compiled: Triton's description of each form, and its kernel.

    A kernel that is compiled already is launched.
    """
    asked: dict[str, Any] = {}
    thread = get_ident()

    def note(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:  # noqa: A002 - Triton's name
        """Whether compiling, and with it the launch, is left out."""
        is_own = get_ident() == thread
        if is_own:
            asked[compile["specialization_data"]] = fn.jit_function
        return is_own

    before = knobs.runtime.jit_cache_hook
    knobs.runtime.jit_cache_hook = note
    try:
        play()
    finally:
        knobs.runtime.jit_cache_hook = before
    return asked


def _compile_all(asked: dict[str, Any], threads: int) -> list[BaseException]:
    """What failed of it; its own failure is that of everything."""
    for kernel in asked.values():
        # Computed once. It depends on which kernels have theirs already: in threads it would be
        # another one at each start, under which nothing is found on disk.
        _ = kernel.cache_key
    device = triton.runtime.driver.active.get_current_device()  # a thread begins with another
    pool = ThreadPoolExecutor(threads)
    try:
        compiling = [pool.submit(_compile, kernel, form, device) for form, kernel in asked.items()]
        return [error for each in compiling if (error := each.exception()) is not None]
    finally:
        pool.shutdown(cancel_futures=True)


def _compile(kernel: Any, form: str, device: int) -> None:
    """Compile a kernel in a form, and what launches it: up to Triton 3.6 that is compiled too."""
    driver = triton.runtime.driver.active
    driver.set_current_device(device)
    compiled = kernel.preload(form)
    driver.launcher_cls(compiled.src, compiled.metadata)
