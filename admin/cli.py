"""The root command: global options, the one door for expected errors, and the list of commands."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from adapters.environment import prepare_environment
from adapters.errors import LcccError
from adapters.home import Home
from admin.commands.adapters import adapters
from admin.commands.base import base
from admin.commands.bench import bench
from admin.commands.chat import chat
from admin.commands.data import data
from admin.commands.demo import demo
from admin.commands.doctor import doctor
from admin.commands.evaluate import evaluate
from admin.commands.jobs import jobs
from admin.commands.keys import keys
from admin.commands.openapi import openapi
from admin.commands.runs import runs
from admin.commands.serve import serve
from admin.commands.sweep import sweep
from admin.commands.train import train
from admin.context import AdminContext
from admin.output import Output


class ErrorDoor(click.Group):
    """Expected errors leave here as one message and exit code 1; usage errors stay 2.

    Anything else is a bug and shows its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LcccError as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=ErrorDoor,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "auto_envvar_prefix": "LCCC",
    },
)
@click.version_option(version("lccc-chat"), prog_name="lccc-admin")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LCCC_HOME",
    show_envvar=True,
    show_default="the user data directory",
    help="Where bases, datasets, runs and adapters are kept.",
)
@click.pass_context
def main(ctx: click.Context, home: Path | None) -> None:
    """Prepare dialogue data, fine-tune adapters, and serve them through OpenAI's API.

    Start with `lccc-admin demo`.
    """
    prepare_environment(os.environ)  # before any command imports torch
    where = Home(home.expanduser().absolute()) if home else Home.from_environment()
    ctx.obj = AdminContext(home=where, output=Output())


COMMANDS = (
    *(data, train, sweep, runs, evaluate, adapters, base, serve, jobs),
    *(keys, chat, demo, bench, doctor, openapi),
)
for command in COMMANDS:
    main.add_command(command)
