"""``lccc-admin doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import click

from admin.context import AdminContext, pass_admin
from admin.options import json_option

Verdict = Literal["ok", "advice", "problem"]
TRAINING = frozenset({"torch", "transformers", "peft", "bitsandbytes", "accelerate", "psutil"})
HUB = frozenset({"transformers"})  # brings huggingface_hub, whose cache may hold bases
PACKAGES = (*sorted(TRAINING), "datasets", "litestar")
INSTALL = "pip install -c constraints.txt -e ."
COLOURS = {"ok": "green", "advice": "yellow", "problem": "red"}
NEEDED_BYTES = 5 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``advice`` says what to do where the verdict is not ok."""

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


@click.command()
@json_option
@pass_admin
def doctor(admin: AdminContext, as_json: bool) -> None:
    """Check the environment, the devices, bitsandbytes, the kernels, home and the bases.

    Exits with 1 where something would keep training or serving from working.
    """
    findings = list(_examine(admin))
    if as_json:
        admin.output.json(findings)
    else:
        for finding in findings:
            mark = click.style(f"{finding.verdict:>8}", fg=COLOURS[finding.verdict])
            admin.output.data(f"{mark}  {finding.subject}: {finding.found}")
            if finding.advice:
                admin.output.data(f"{'':>10}{finding.advice}")
    if any(finding.verdict == "problem" for finding in findings):
        sys.exit(1)


@dataclass(frozen=True)
class Examination:
    """One look at the machine. It is left out where a package that it ``needs`` is missing."""

    subject: str
    look: Callable[[], Iterable[Finding]]
    needs: frozenset[str] = frozenset()

    def findings(self) -> Iterator[Finding]:
        """What was found; where the look itself fails, that is the finding."""
        try:
            yield from self.look()
        except Exception as error:  # noqa: BLE001 # broken installations break in any way
            said = " ".join(str(error).split())
            found = f"{type(error).__name__}: {said}" if said else type(error).__name__
            yield Finding(self.subject, "problem", found, f"Installing again may help: {INSTALL}")


def _examine(admin: AdminContext) -> Iterator[Finding]:
    from adapters.base import DEFAULT_BASE

    missing = {name for name in PACKAGES if _version(name) is None}
    for examination in (
        Examination("Python", _python),
        Examination("packages", lambda: _packages(missing)),
        Examination("devices", _devices, TRAINING),
        Examination("bitsandbytes NF4", _quantisation, TRAINING),
        Examination("native kernels", _kernels),
        Examination("home", lambda: _home(admin)),
        Examination("base pocket", lambda: _base(admin, "pocket"), HUB),
        Examination(f"base {DEFAULT_BASE}", lambda: _base(admin, DEFAULT_BASE), HUB),
        Examination("adapters", lambda: _adapters(admin)),
    ):
        if not examination.needs & missing:
            yield from examination.findings()


def _python() -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _packages(missing: set[str]) -> Iterator[Finding]:
    if missing:
        absent = ", ".join(name for name in PACKAGES if name in missing)
        yield Finding("packages", "problem", f"missing: {absent}", f"Install with: {INSTALL}")
    else:
        found = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        yield Finding("packages", "ok", found)
    if kernels := _version("kernels"):
        yield Finding(
            "packages",
            "advice",
            f"kernels {kernels} is installed",
            "bitsandbytes then looks for kernels on the hub when it is imported; "
            "`pip uninstall kernels` keeps it offline.",
        )


def _kernels() -> Iterator[Finding]:
    import ctypes

    from server.engine.native.build import CompilationFailed, cache_directory, compiled
    from server.engine.native.structs import INSTRUCTIONS, declare

    try:
        path = compiled(cache_directory(os.environ), os.environ)
        library = ctypes.CDLL(str(path))
    except (CompilationFailed, OSError) as error:
        advice = "Without them a CPU serves several times slower."
        yield Finding("native kernels", "advice", f"not compiled: {error}", advice)
    else:
        declare(library)
        used = INSTRUCTIONS[library.lccc_instructions()]
        yield Finding("native kernels", "ok", f"compiled for this processor ({used}), {path}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    from training.devices import describe_devices

    for device in describe_devices():
        yield Finding(
            device.name, "ok" if not device.advice else "advice", device.found, device.advice
        )


def _quantisation() -> Iterator[Finding]:
    from training.devices import check_nf4

    problem = check_nf4()
    if problem is None:
        yield Finding("bitsandbytes NF4", "ok", "a quantised layer computes, with gradients")
        return
    yield Finding(
        "bitsandbytes NF4",
        "problem",
        problem,
        "Train with --set quantization.kind=none, or reinstall bitsandbytes.",
    )


def _home(admin: AdminContext) -> Iterator[Finding]:
    root = admin.home.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("home", "problem", f"{root} cannot be written", "Set LCCC_HOME elsewhere.")
        return
    free = shutil.disk_usage(existing).free
    found = f"{root} ({free / 2**30:.0f} GiB free)"
    if free < NEEDED_BYTES:
        advice = "A Qwen3-0.6B with runs and adapters needs about 5 GiB."
        yield Finding("home", "advice", found, advice)
    else:
        yield Finding("home", "ok", found)


def _base(admin: AdminContext, name: str) -> Iterator[Finding]:
    from adapters.base import find_base
    from adapters.errors import BaseInvalid, BaseNotFound

    subject, is_pocket = f"base {name}", name == "pocket"
    try:
        base = find_base(name, admin.home)
    except BaseNotFound:
        verb = "builds it here in about a minute" if is_pocket else "downloads it"
        yield Finding(subject, "advice", "not here", f"`lccc-admin base {name}` {verb}.")
    except BaseInvalid as error:
        advice = (
            "`lccc-admin base pocket --rebuild` builds it again."
            if is_pocket
            else f"Remove that directory; `lccc-admin base {name}` downloads it again."
        )
        yield Finding(subject, "problem", str(error), advice)
    else:
        yield Finding(subject, "ok", f"{base.architecture.layers} layers")


def _adapters(admin: AdminContext) -> Iterator[Finding]:
    from adapters.registry import Registry

    snapshot = Registry(admin.home.registry).snapshot()
    yield Finding("adapters", "ok", f"{len(snapshot.entries)} registered")
    for name, reason in snapshot.broken.items():
        yield Finding(f"adapter {name}", "advice", reason, f"`lccc-admin adapters remove {name}`")
