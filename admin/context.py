"""What every command is handed: where home is, and how to talk."""

from __future__ import annotations

from dataclasses import dataclass

import click

from adapters.home import Home
from admin.output import Output


@dataclass(frozen=True)
class AdminContext:
    """Built once by the root command, passed on with ``@pass_admin``."""

    home: Home
    output: Output


pass_admin = click.make_pass_decorator(AdminContext)
