"""The documents against the code: what they tell a reader to type or send has to exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from admin.cli import main
from server.wire.chat import ChatRequest
from server.wire.decode import (
    UNSUPPORTED_IN_CHAT,
    Decoded,
    decode_body,
    decode_chat_request,
    decode_completion_request,
)
from server.wire.decode_responses import UNSUPPORTED_IN_RESPONSES
from server.wire.lora import LoadAdapterRequest
from server.wire.responses import ResponsesRequest
from training.sweeps.definition import read_sweep
from training.sweeps.trials import expand

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
ENGLISH = ("README.md", *(f"docs/{name}" for name in CHAPTERS))
CHINESE = ("README.zh-CN.md", *(f"docs/zh/{name}" for name in CHAPTERS))
DOCUMENTS = (
    *ENGLISH,
    *CHINESE,
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "openapi/README.md",
)
in_both_languages = pytest.mark.parametrize("manual", [ENGLISH, CHINESE], ids=["en", "zh"])
PROGRAM = "lccc-admin"
NOT_IN_THE_OPENAPI_DOCUMENT = {
    ("GET", "/admin/events"),
    ("GET", "/console"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"(^|\s+)#.*$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code: the language after its fence, and its text."""

    language: str
    text: str


def read(*documents: str) -> str:
    """The text of all of them, one after the other."""
    return "\n".join((ROOT / one).read_text(encoding="utf-8") for one in documents)


def blocks(*documents: str, language: str = "") -> list[Block]:
    """The fenced blocks, of one language or of all."""
    found = [Block(*groups) for groups in _BLOCK.findall(read(*documents))]
    return [block for block in found if language in ("", block.language)]


def prose(*documents: str) -> str:
    """What is outside of fenced blocks."""
    return _BLOCK.sub("", read(*documents))


def anchors(document: str) -> set[str]:
    """The fragments that lead to its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def shell_commands(*documents: str) -> Iterator[list[str]]:
    """The words of every simple command in the shell blocks; pipes and comments part them."""
    for block in blocks(*documents, language="sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("|&;"):
                    yield words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def ours(lines: Iterable[list[str]]) -> list[list[str]]:
    """The arguments of every call of our program among these command lines."""
    return [words[1:] for words in lines if words[:1] == [PROGRAM]]


def spans(*documents: str) -> list[list[str]]:
    """The words of every code span in the text."""
    return [shlex.split(span) for span in _SPAN.findall(prose(*documents))]


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something, and of every group with own options."""
    has_options = any(isinstance(parameter, click.Option) for parameter in command.params)
    if not isinstance(command, click.Group) or has_options:
        yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


def table_spans(*documents: str, column: int = 0) -> list[list[str]]:
    """The code spans in a column of every table row."""
    lines = prose(*documents).splitlines()
    rows = (line.strip("|").split("|") for line in lines if line[:1] == "|")
    return [_SPAN.findall(row[column]) for row in rows if len(row) > column]


def tree(command: click.Command = main) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from tree(child)


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Parse arguments as the program does. Nothing is run, and no file has to exist.

    Raises click.UsageError where the program would exit with 2.
    """
    for command in tree():
        monkeypatch.setattr(command, "callback", lambda **_: None)
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter.type, "exists", False)
    return lambda arguments: main.main(arguments, PROGRAM, standalone_mode=False)


def complaint(parse: Callable[[list[str]], None], arguments: list[str]) -> str | None:
    """What the program says to these arguments, in the form ``arguments: message``."""
    try:
        parse(arguments)
    except click.exceptions.NoArgsIsHelpError:
        return f"{shlex.join(arguments)}: Missing command."
    except click.UsageError as error:
        return f"{shlex.join(arguments)}: {error.format_message()}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_to_type_is_one_that_works(
    document: str, parse: Callable[[list[str]], None]
) -> None:
    """Each `lccc-admin …` of a code block has a command, options and arguments that exist."""
    typed = ours(shell_commands(document))

    assert [said for words in typed if (said := complaint(parse, words))] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_mentioned_exists(
    document: str, parse: Callable[[list[str]], None]
) -> None:
    """In the text only what a command needs may be left out."""
    said = [complaint(parse, words) or "" for words in ours(spans(document))]

    assert [one for one in said if one and ": Missing " not in one] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "prepair", "x"],
        ["train", "--nmae", "x"],
        ["base"],
        ["serve", "--device", "tpu"],
        ["chat", "cat"],
    ],
)
def test_a_wrong_command_does_not_pass(
    arguments: list[str], parse: Callable[[list[str]], None]
) -> None:
    """Unknown commands, options, choices and arguments are seen, and missing ones."""
    assert complaint(parse, arguments)


@in_both_languages
def test_every_command_is_in_the_table(manual: tuple[str, ...]) -> None:
    """Each command, and each group that has options, begins a row of the commands table."""
    listed = ours(row[0].split() for row in table_spans(*manual) if row)

    missing = [
        path
        for path in commands()
        if path and not any(tuple(row[: len(path)]) == path for row in listed)
    ]

    assert not missing
    assert any(row[0] == "--home" for row in listed), "the root group has an option"


@in_both_languages
def test_options_named_in_the_table_are_the_commands_own(manual: tuple[str, ...]) -> None:
    """A row of the commands table describes only options that its command has."""
    rows = zip(table_spans(*manual), table_spans(*manual, column=1), strict=True)
    for (command, *_), described in ((row, text) for row, text in rows if row):
        words = command.split()
        if words[0] != PROGRAM:
            continue
        owner: click.Command = main
        for word in words[1:]:
            if isinstance(owner, click.Group) and word in owner.commands:
                owner = owner.commands[word]
        known = {name for parameter in owner.params for name in parameter.opts} | {"--help"}
        named = {span for span in described if span.startswith("--")}

        assert named <= known, command


@in_both_languages
def test_the_endpoint_table_is_the_openapi_document(manual: tuple[str, ...]) -> None:
    """Method and path of every operation, and no other."""
    paths = json.loads(read("openapi/openapi.json"))["paths"]
    operations = {(method.upper(), path) for path, item in paths.items() for method in item}

    listed = set(
        re.findall(r"^\| (GET|POST|PUT|PATCH|DELETE) \| `([^`]+)`", prose(*manual), re.MULTILINE)
    )

    assert listed == operations | NOT_IN_THE_OPENAPI_DOCUMENT


@in_both_languages
def test_every_request_parameter_is_named(manual: tuple[str, ...]) -> None:
    """Those honoured have a row of a table; those refused are listed, and no others."""
    text = prose(*manual)
    rows = {span for row in table_spans(*manual) for span in row}
    refused = next(line for line in text.splitlines() if line.startswith("`functions`"))

    assert set(ChatRequest.__struct_fields__) <= rows
    assert set(_SPAN.findall(refused)) == UNSUPPORTED_IN_CHAT.keys()


@in_both_languages
def test_every_parameter_of_a_response_is_named(manual: tuple[str, ...]) -> None:
    """The same for the responses API."""
    text = prose(*manual)
    rows = {span for row in table_spans(*manual) for span in row}
    refused = next(line for line in text.splitlines() if line.startswith("`background`"))
    at_the_top = re.split(", and|；", refused)[0]

    assert set(ResponsesRequest.__struct_fields__) <= rows
    assert set(_SPAN.findall(at_the_top)) == UNSUPPORTED_IN_RESPONSES.keys()


@in_both_languages
def test_every_environment_variable_is_named(manual: tuple[str, ...]) -> None:
    """Each variable that an option declares is in the text."""
    declared = {
        parameter.envvar
        for command in tree()
        for parameter in command.params
        if isinstance(parameter.envvar, str)
    }

    named = set(_SPAN.findall(prose(*manual)))

    assert declared <= named


@in_both_languages
def test_the_requests_of_curl_are_ones_the_server_takes(manual: tuple[str, ...]) -> None:
    """The body after `-d` is decoded without a refusal and without an ignored field."""
    decoders: dict[str, Callable[[bytes], Decoded[Any]]] = {
        "chat/completions": decode_chat_request,
        "completions": decode_completion_request,
        "load_lora_adapter": lambda body: decode_body(body, LoadAdapterRequest),
    }
    calls = [words for words in shell_commands(*manual) if words[:1] == ["curl"]]
    seen = set()

    for words in calls:
        url = next(word for word in words if "/v1/" in word)
        endpoint = url.partition("/v1/")[2]
        seen.add(endpoint)
        body = words[words.index("-d") + 1]
        assert decoders[endpoint](body.encode()).ignored == ()
    assert seen == decoders.keys()


@in_both_languages
def test_examples_are_of_the_language_they_say(manual: tuple[str, ...]) -> None:
    """Python compiles, JSON and JSON Lines parse."""
    for block in blocks(*manual, language="python"):
        compile(block.text, "an example", "exec")
    for block in blocks(*manual, language="json"):
        json.loads(block.text)
    for block in blocks(*manual, language="jsonl"):
        for line in block.text.splitlines():
            json.loads(line)


@in_both_languages
def test_the_sweeps_are_ones_that_can_be_read(manual: tuple[str, ...], tmp_path: Path) -> None:
    """Their fields exist, their values are in bounds, and there are trials."""
    (tmp_path / "my-recipe.toml").touch()
    sweeps = [block for block in blocks(*manual, language="toml") if "[fields]" in block.text]

    for block in sweeps:
        (tmp_path / "sweep.toml").write_text(block.text, encoding="utf-8")
        assert expand(read_sweep(tmp_path / "sweep.toml")).trials
    assert sweeps


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_exists(document: str) -> None:
    """Each `make …` of the documents is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    lines = [words for words in (*shell_commands(document), *spans(document)) if "make" in words]

    named = {target for words in lines for target in words[words.index("make") + 1 :]}

    assert named <= targets


@pytest.mark.parametrize(("english", "chinese"), list(zip(ENGLISH, CHINESE, strict=True)))
def test_both_languages_are_in_step(english: str, chinese: str) -> None:
    """The same headings by number and level, and the same code but for comments."""
    headings = [
        [len(level) for level in re.findall(r"^(#+) ", prose(one), re.MULTILINE)]
        for one in (english, chinese)
    ]
    code = [
        [(block.language, _COMMENT.sub("", block.text)) for block in blocks(one)]
        for one in (english, chinese)
    ]

    assert headings[0] == headings[1]
    assert code[0] == code[1]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    """Files, directories and headings that the documents link to are in the repository."""
    links = [link for link in _LINK.findall(prose(document)) if "://" not in link]
    broken = []
    for link in links:
        path, _, fragment = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (fragment and fragment not in anchors(str(target))):
            broken.append(link)

    assert not broken


@in_both_languages
def test_every_chapter_is_found_from_the_readme(manual: tuple[str, ...]) -> None:
    """The front page links to each, and each links back."""
    readme, *chapters = manual

    assert set(chapters) <= set(_LINK.findall(prose(readme)))
    assert all(f"/{readme})" in prose(chapter) for chapter in chapters)


def test_paths_named_in_the_architecture_exist() -> None:
    """Modules and files that ARCHITECTURE.md and CONTRIBUTING.md name are there."""
    named = {
        span for one in ("ARCHITECTURE.md", "CONTRIBUTING.md") for span in _SPAN.findall(prose(one))
    }
    packages = "adapters|admin|server|training|tests|openapi"
    paths = {span for span in named if re.fullmatch(rf"({packages})/[a-z0-9_./-]+", span)}
    modules = {span for span in named if re.fullmatch(rf"({packages})(\.[a-z_]+)+", span)}

    missing = {path for path in paths if not (ROOT / path).exists()}
    missing |= {
        module
        for module in modules
        if not (ROOT / f"{module.replace('.', '/')}.py").exists()
        and not (ROOT / module.replace(".", "/")).is_dir()
    }

    assert paths
    assert modules
    assert not missing


def test_the_changelog_knows_this_version() -> None:
    """The version of pyproject.toml has a section."""
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]

    assert re.search(rf"^## \[{re.escape(version)}\]", read("CHANGELOG.md"), re.MULTILINE)
