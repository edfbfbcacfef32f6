"""``lccc-admin doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import click

from admin.context import AdminContext, pass_admin

Verdict = Literal["ok", "advice", "problem"]
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "litestar")
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_admin
def doctor(admin: AdminContext, as_json: bool) -> None:
    """Check the environment, the devices, bitsandbytes, home and the bases.

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


def _examine(admin: AdminContext) -> Iterator[Finding]:
    yield from _environment()
    yield from _devices()
    yield _quantisation()
    yield from _home(admin)
    yield from _bases(admin)


def _environment() -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = "Install with: pip install -c constraints.txt -e ."
        yield Finding("packages", "problem", f"missing: {', '.join(missing)}", advice)
    yield Finding("packages", "ok", ", ".join(found))
    try:
        yield Finding(
            "packages",
            "advice",
            f"kernels {version('kernels')} is installed",
            "bitsandbytes then looks for kernels on the hub when it is imported; "
            "`pip uninstall kernels` keeps it offline.",
        )
    except PackageNotFoundError:
        return


def _devices() -> Iterator[Finding]:
    from training.devices import describe_devices

    for device in describe_devices():
        yield Finding(
            device.name, "ok" if not device.advice else "advice", device.found, device.advice
        )


def _quantisation() -> Finding:
    from training.devices import check_nf4

    problem = check_nf4()
    if problem is None:
        return Finding("bitsandbytes NF4", "ok", "a quantised layer computes, with gradients")
    return Finding(
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


def _bases(admin: AdminContext) -> Iterator[Finding]:
    from adapters.base import DEFAULT_BASE, find_base
    from adapters.errors import AdapterError
    from adapters.registry import Registry

    for name in ("pocket", DEFAULT_BASE):
        try:
            base = find_base(name, admin.home)
        except AdapterError:
            verb = "builds it here in about a minute" if name == "pocket" else "downloads it"
            yield Finding(f"base {name}", "advice", "not here", f"`lccc-admin base {name}` {verb}.")
        else:
            yield Finding(f"base {name}", "ok", f"{base.architecture.layers} layers")
    snapshot = Registry(admin.home.registry).snapshot()
    yield Finding("adapters", "ok", f"{len(snapshot.entries)} registered")
    for name, reason in snapshot.broken.items():
        yield Finding(f"adapter {name}", "advice", reason, f"`lccc-admin adapters remove {name}`")
