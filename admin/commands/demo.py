"""``lccc-admin demo``: the whole way, from bundled dialogues to two chat characters."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from adapters.errors import AdapterError
from admin.commands.base import obtain_base
from admin.commands.train import run_training, tell_how_to_resume
from admin.context import AdminContext, pass_admin
from admin.stopping import INTERRUPTED, sigterm_as_ctrl_c

if TYPE_CHECKING:
    from adapters.base import Base
    from server.process import Serving

QUESTION = "今天加班到10点，好累啊"
ADAPTERS = {"cat": "a playful cat (小猫)", "scholar": "a courteous scholar of old (书生)"}

# A reply whose texts came within less was read in one piece or two.
_SEEN_S = 0.05


@dataclass(frozen=True)
class Reply:
    """What a model said, and how fast: seconds to the first text, tokens generated per second."""

    model: str
    text: str
    first_text_s: float
    tokens_per_s: float


@click.command()
@click.option("--once", is_flag=True, help="End after the replies instead of serving on.")
@click.option("--retrain", is_flag=True, help="Train the adapters again although they are there.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    help="Port to serve on; a following one is taken if it is in use.",
)
@pass_admin
def demo(admin: AdminContext, once: bool, retrain: bool, port: int) -> None:
    """Go the whole way once: base, data, two adapters, server, chat.

    Builds the small base `pocket` from bundled dialogues (first time only), prepares two sets of
    sample dialogues, fine-tunes an adapter on each with QLoRA, serves all three models and lets
    each answer the same line. Needs no network and no GPU.
    """
    from server.background import serve_in_thread
    from server.settings import ServerSettings

    _refuse_to_replace(admin)
    base = obtain_base(admin, "pocket")
    for adapter, character in ADAPTERS.items():
        _train(admin, base, adapter, character, retrain=retrain)
    settings = ServerSettings(
        home=admin.home,
        base="pocket",
        port=port,
        port_search=50,
        drain_timeout_s=1.0,
        api_key=_own_key(admin),
    )
    admin.output.say("Starting the server …")
    with sigterm_as_ctrl_c(), serve_in_thread(settings) as serving:
        if port and not serving.base_url.endswith(f":{port}"):
            admin.output.say(f"Port {port} is taken; serving at {serving.base_url} instead.")
        with ThreadPoolExecutor() as pool:
            models = ["pocket", *ADAPTERS]
            replies = list(
                pool.map(lambda model: ask(serving.api_url, model, settings.api_key), models)
            )
        _show(admin, replies)
        admin.output.say(_next_steps(serving, settings.api_key))
        if not once:
            _wait(admin)


def _refuse_to_replace(admin: AdminContext) -> None:
    """Leave alone what the user registered under the name of one of ours.

    Raises:
        AdapterError: there is such an adapter, which no demo made.
    """
    from adapters.registry import Registry

    entries = Registry(admin.home.registry).snapshot().entries
    for adapter in entries.keys() & ADAPTERS.keys():
        made_by = entries[adapter].manifest.run
        if made_by is None or made_by.dataset != _dataset_name(adapter):
            raise AdapterError(
                f"The demo trains an adapter called '{adapter}', and one that is not the demo's is "
                "registered under this name. Register that under another name and remove it here "
                f"(`lccc-admin adapters remove {adapter}`), or give the demo a home of its own "
                "(`lccc-admin --home DIR demo`)."
            )


def _dataset_name(adapter: str) -> str:
    return f"demo-{adapter}"


def _train(admin: AdminContext, base: Base, adapter: str, character: str, *, retrain: bool) -> None:
    """Prepare the sample dialogues of ``adapter`` and train it, unless that has been done."""
    from adapters.registry import Registry
    from training.data.dataset import prepare
    from training.pocket.grammar import SAMPLES
    from training.recipe import read_recipe
    from training.train import plan_training

    dataset = prepare(
        [SAMPLES / f"{adapter}.json"],
        _dataset_name(adapter),
        admin.home.datasets,
        overwrite=True,
    )
    recipe = read_recipe("pocket")
    entry = Registry(admin.home.registry).snapshot().entries.get(adapter)
    made_by = entry.manifest.run if entry and entry.manifest.base == base.ref else None
    wanted = (dataset.manifest.sha256, recipe.sha256)
    if made_by and (made_by.dataset_sha256, made_by.recipe_sha256) == wanted and not retrain:
        admin.output.say(f"The adapter '{adapter}' is there already (--retrain makes it anew).")
        return
    admin.output.say(f"Training '{adapter}', {character}, with QLoRA …")
    outcome = run_training(admin, plan_training(base, recipe, dataset), adapter)
    if outcome.status.state != "completed":
        tell_how_to_resume(admin, outcome)
        admin.output.say("and then `lccc-admin demo` again.")
        sys.exit(INTERRUPTED)


def _own_key(admin: AdminContext) -> str:
    """A key for this server alone, where there are keys at home; nobody knows those any more."""
    import secrets

    from adapters.keyring import Keyring

    return secrets.token_urlsafe(16) if Keyring(admin.home.keys).keys() else ""


def ask(api_url: str, model: str, api_key: str = "", question: str = QUESTION) -> Reply:
    """Stream one reply, as any OpenAI client would.

    Raises:
        ChatFailed: the server refused, or the reply broke off.
    """
    import time

    from admin.chat_client import ChatClient

    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 60,
        "seed": 1,
    }
    text, first, tokens = "", 0.0, 0
    with ChatClient(api_url, api_key=api_key) as client:
        started = time.perf_counter()
        for chunk in client.stream(body):
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                first = first or (time.perf_counter() - started if piece else 0.0)
                text += piece
            tokens = chunk["usage"]["completion_tokens"] if chunk.get("usage") else tokens
        took = time.perf_counter() - started
    return Reply(model, text, first, speed(tokens, first, took))


def speed(tokens: int, first_s: float, took_s: float) -> float:
    """Tokens a second after the first, of a reply that began after ``first_s`` of ``took_s``.

    A reply that came in one piece or two was quicker than could be seen; then it is told from the
    request on.
    """
    seen_s = took_s - first_s
    return (tokens - 1) / seen_s if tokens > 1 and seen_s >= _SEEN_S else tokens / took_s


def _show(admin: AdminContext, replies: list[Reply]) -> None:
    admin.output.data(f"\n  {QUESTION}\n")
    columns = [reply.model for reply in replies]
    speeds = [
        f"{reply.first_text_s * 1000:.0f} ms to first text, {reply.tokens_per_s:.0f} tokens/s"
        for reply in replies
    ]
    admin.output.table(columns, [[reply.text for reply in replies], speeds])


def _next_steps(serving: Serving, api_key: str) -> str:
    url = serving.api_url
    header = f" -H 'authorization: Bearer {api_key}'" if api_key else ""
    headers = f"-H 'content-type: application/json'{header}"
    option = f" --api-key {api_key}" if api_key else ""
    body = json.dumps(
        {
            "model": "cat",
            "stream": True,
            "messages": [{"role": "user", "content": "我想去看电影"}],
        },
        ensure_ascii=False,
    )
    return "\n".join(
        [
            "",
            f"Serving pocket, cat and scholar at {url}. In another terminal:",
            "",
            f"  curl -N {url}/chat/completions {headers} -d '{body}'",
            "",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{url}", api_key="{api_key or "none"}")',
            '  messages = [{"role": "user", "content": "我想去看电影"}]',
            '  reply = client.chat.completions.create(model="scholar", messages=messages)',
            "  print(reply.choices[0].message.content)",
            "",
            f"  lccc-admin chat --model cat --url {url}{option}",
            "",
        ]
    )


def _wait(admin: AdminContext) -> None:
    try:
        admin.output.say("Ctrl-C stops.")  # within: a signal may come as soon as this is read
        threading.Event().wait()
    except KeyboardInterrupt:
        admin.output.say("Stopped.")
