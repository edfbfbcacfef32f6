"""``lccc-admin serve``: the base and every registered adapter behind OpenAI's API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin.commands.base import obtain_base
from admin.context import AdminContext, pass_admin
from admin.options import base_option

if TYPE_CHECKING:
    from server.process import Serving

GREETING = "你好"


@click.command()
@base_option
@click.option(
    "--host",
    default="127.0.0.1",
    envvar="LCCC_HOST",
    show_envvar=True,
    help="Address to listen on. Beyond this machine only with a key (`lccc-admin keys`).",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar="LCCC_PORT",
    show_envvar=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A further host name that clients use for this server. May be repeated.",
)
@click.option(
    "--allow-unauthenticated",
    is_flag=True,
    envvar="LCCC_ALLOW_UNAUTHENTICATED",
    show_envvar=True,
    help="Listen beyond this machine although there is no key.",
)
@click.option(
    "--api-key",
    default="",
    envvar="LCCC_API_KEY",
    show_envvar=True,
    show_default=False,
    metavar="KEY",
    help="An inference key of this server alone, beside those of `lccc-admin keys`.",
)
@click.option(
    "--admin-key",
    default="",
    envvar="LCCC_ADMIN_KEY",
    show_envvar=True,
    show_default=False,
    metavar="KEY",
    help="An admin key of this server alone.",
)
@click.option(
    "--adapter-root",
    "adapter_roots",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LCCC_ADAPTER_ROOTS",
    show_envvar=True,
    metavar="DIR",
    help="Clients with an admin key may load adapters from below it. May be repeated.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "fp32", "bf16", "int8", "nf4"]),
    default="auto",
    envvar="LCCC_WEIGHTS",
    show_envvar=True,
    help="Number format of the base's weights; auto is bf16 on a GPU, int8 on a CPU.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    envvar="LCCC_DEVICE",
    show_envvar=True,
    help="Where the model runs.",
)
@click.option(
    "--kernels",
    type=click.Choice(["auto", "native", "torch"]),
    default="auto",
    envvar="LCCC_KERNELS",
    show_envvar=True,
    help="What computes on a CPU: compiled kernels (auto: where there is a C compiler) or torch.",
)
@click.option(
    "--max-running",
    type=click.IntRange(1),
    envvar="LCCC_MAX_RUNNING",
    show_default="16, on a GPU 256",
    help="How many replies are generated together.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(0),
    envvar="LCCC_MAX_WAITING",
    show_default="64, or four for each that runs",
    help="How many further requests may wait; beyond that they get status 429.",
)
@click.option(
    "--max-context",
    type=click.IntRange(2),
    envvar="LCCC_MAX_CONTEXT",
    show_default="the engine's choice",
    help="Tokens that a prompt and its reply may have together.",
)
@click.option(
    "--kv-cache-tokens",
    type=click.IntRange(2),
    envvar="LCCC_KV_CACHE_TOKENS",
    show_default="a share of the memory",
    help="Tokens that running and remembered conversations may hold together.",
)
@click.option(
    "--prefix-cache/--no-prefix-cache",
    default=True,
    envvar="LCCC_PREFIX_CACHE",
    show_envvar=True,
    help="Whether the next turn of a chat finds the computed turns before it.",
)
@click.option(
    "--speculative-tokens",
    type=click.IntRange(0),
    default=0,
    envvar="LCCC_SPECULATIVE_TOKENS",
    show_envvar=True,
    help="Tokens that a step may guess from the text so far: quicker where replies copy.",
)
@click.option(
    "--max-stored-responses",
    type=click.IntRange(0),
    default=1000,
    envvar="LCCC_MAX_STORED_RESPONSES",
    show_envvar=True,
    help="How many responses are kept for those that go on from them; 0 keeps none.",
)
@click.option(
    "--max-stored-bytes",
    type=click.IntRange(1),
    default=64_000_000,
    envvar="LCCC_MAX_STORED_BYTES",
    show_envvar=True,
    help="How much memory the responses that are kept may take, as JSON, in bytes.",
)
@click.option(
    "--drain-timeout",
    "drain_timeout_s",
    type=click.FloatRange(0),
    default=30.0,
    envvar="LCCC_DRAIN_TIMEOUT_S",
    help="Seconds that running replies may take after the first Ctrl-C; a second one ends them.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    help="How much is logged on stderr; info has a line for each request.",
)
@pass_admin
def serve(admin: AdminContext, /, log_level: str, **given: Any) -> None:
    """Serve the base and all adapters at http://127.0.0.1:8000/v1.

    Adapters that are registered while it runs are served without a restart.
    Ctrl-C stops it: running replies may finish first, a second Ctrl-C ends them.
    """
    from server.__main__ import run
    from server.access.doorkeeper import Doorkeeper
    from server.settings import ServerSettings

    settings = ServerSettings(home=admin.home, **given)
    admin.output.say(f"Loading {settings.base} ...")
    run(
        settings,
        prepare=lambda: obtain_base(admin, settings.base),
        on_ready=lambda serving: admin.output.say(
            banner(serving, needs_key=Doorkeeper(settings).has_keys)
        ),
        log_level=log_level,
    )
    admin.output.say("Stopped.")


def banner(serving: Serving, *, needs_key: bool = False) -> str:
    """What a person wants to know once the server is up. ``needs_key``: clients too."""
    base, *adapters = [model.name for model in serving.models]
    model = adapters[0] if adapters else base
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "{GREETING}"}}]}}'
    key = 'os.environ["LCCC_API_KEY"]' if needs_key else '"none"'
    shown = ['    -H "authorization: Bearer $LCCC_API_KEY" \\'] if needs_key else []
    return "\n".join(
        [
            "",
            f"  Serving {base} and {_count(adapters)} at {serving.api_url}",
            "",
            f"  curl {serving.api_url}/chat/completions \\",
            *shown,
            f"    -H 'content-type: application/json' -d '{body}'",
            "",
            f'  OpenAI(base_url="{serving.api_url}", api_key={key})   # Python',
            f"  lccc-admin chat --url {serving.api_url}",
            "",
            f"  The console: {serving.base_url}/console#token={serving.token}",
            f"  The API, to try out: {serving.base_url}/docs",
            "  The token is an admin key until this server ends.",
            "",
            "  Ctrl-C stops.",
            "",
        ]
    )


def _count(adapters: list[str]) -> str:
    if not adapters:
        return "no adapter yet"
    noun = "adapter" if len(adapters) == 1 else "adapters"
    return f"{len(adapters)} {noun} ({_some(adapters)})"


def _some(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, ..." if len(names) > most else shown
