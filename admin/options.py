"""Options that several commands have, so that each reads the same wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from adapters.base import DEFAULT_BASE

Decorator = Callable[[Any], Any]

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def options(*decorators: Decorator) -> Decorator:
    """Several options in one decorator, in the order in which help shows them."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def set_option(text: str = "Override one recipe field.") -> Decorator:
    """``--set KEY=VALUE``, as often as wanted: ``overrides`` of settings in TOML."""
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
base_option = click.option(
    "--base",
    default=DEFAULT_BASE,
    envvar="LCCC_BASE",
    show_envvar=True,
    help="`pocket`, a hub id, or a checkpoint directory.",
)
report_to_option = click.option(
    "--report-to",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="Also tell a tracker of experiments what is measured; several can be named.",
)
