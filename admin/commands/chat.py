"""``lccc-admin chat``: a conversation in the terminal with a running server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from adapters.errors import LcccError
from admin.context import AdminContext, pass_admin
from admin.output import Output

if TYPE_CHECKING:
    from admin.chat_client import ChatClient

PROMPT = "> "
HELP = """\
/model NAME   talk to another model; without NAME: list what is served
/system TEXT  set the system prompt and start again; without TEXT: use the model's own
/reset        start again
/help         this list
/quit         leave (so does Ctrl-D)
Ctrl-C stops a reply."""


@click.command()
@click.option("--model", metavar="NAME", help="Adapter or base.", show_default="the first served")
@click.option(
    "--url",
    default="http://127.0.0.1:8000/v1",
    envvar="LCCC_URL",
    show_envvar=True,
    help="Where the server's API is.",
)
@click.option(
    "--api-key",
    default="",
    envvar="LCCC_API_KEY",
    show_envvar=True,
    show_default=False,
    metavar="KEY",
    help="The key that the server wants, if it wants one.",
)
@pass_admin
def chat(admin: AdminContext, model: str | None, url: str, api_key: str) -> None:
    """Talk to a running server.

    Replies go to stdout and everything else to stderr, so that lines piped in give replies piped
    out. A failed reply then makes the exit code 1.
    """
    from admin.chat_client import ChatClient

    with ChatClient(url, api_key=api_key) as client:
        conversation = Conversation(client, admin.output)
        conversation.switch(model or client.models()[0])
        if sys.stdin.isatty():
            admin.output.say(f"Talking to {conversation.model}. /help lists the commands.")
        for line in _lines():
            if not conversation.take(line):
                break
    if conversation.has_failed and not sys.stdin.isatty():
        sys.exit(1)


def _lines() -> Iterator[str]:
    """What the person types, or what is piped in, without blank lines."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives input() editing and history
    while True:
        try:
            line = _read().strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo("\n(/quit or Ctrl-D leaves)", err=True)
            continue
        if line:
            yield line


def _read() -> str:
    if not sys.stdin.isatty():
        return input()
    if sys.stdout.isatty():
        return input(PROMPT)  # readline has to know the prompt
    click.echo(PROMPT, nl=False, err=True)
    return input()


class Conversation:
    """One conversation: with whom, what was said, and what the person can do about it."""

    def __init__(self, client: ChatClient, output: Output) -> None:
        self.model = ""
        self.has_failed = False
        self._client = client
        self._output = output
        self._system: str | None = None
        self._said: list[dict[str, str]] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "/model": self._model,
            "/system": self.instruct,
            "/reset": lambda _: self.reset(),
            "/help": lambda _: output.say(HELP),
        }

    def take(self, line: str) -> bool:
        """Do what ``line`` says; ``False`` when it says to leave."""
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        command = self._commands.get(word)
        try:
            if command is not None:
                command(rest.strip())
            elif word.startswith("/") and word[1:].isalpha():
                self._output.warn(f"There is no command {word}. /help lists them.")
            else:
                self.say(line)
        except LcccError as error:
            self.has_failed = True
            self._output.warn(str(error))
        return True

    def say(self, text: str) -> None:
        """Send ``text`` and print the reply as it comes; a failed exchange is forgotten."""
        self._said.append({"role": "user", "content": text})
        try:
            reply = self._print_reply()
        except LcccError:
            self._said.pop()
            raise
        if reply:
            self._said.append({"role": "assistant", "content": reply})
        else:
            self._said.pop()

    def _print_reply(self) -> str:
        pieces: list[str] = []
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        try:
            with contextlib.closing(
                self._client.reply(self.model, [*system, *self._said])
            ) as reply:
                for piece in reply:
                    pieces.append(piece)
                    click.echo(piece, nl=False)
        except KeyboardInterrupt:
            click.echo(" (stopped)", nl=False, err=True)
        finally:
            if pieces:
                click.echo()
        return "".join(pieces)

    def switch(self, model: str) -> None:
        """Talk to ``model`` from now on; what was said stays.

        Raises:
            ChatFailed: it is not served; the message lists what is.
        """
        from admin.chat_client import ChatFailed

        served = self._client.models()
        if model not in served:
            raise ChatFailed(f"'{model}' is not served. Served: {', '.join(served)}.")
        self.model = model

    def instruct(self, text: str) -> None:
        """Replace the system prompt and start again."""
        self._system = text or None
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        self._said.clear()
        self._output.say("A new conversation.")

    def _model(self, name: str) -> None:
        if name:
            self.switch(name)
            self._output.say(f"Talking to {name}.")
            return
        for served in self._client.models():
            self._output.say(f"{'*' if served == self.model else ' '} {served}")
