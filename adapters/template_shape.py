"""What a chat template writes around the contents of messages, found out once for many messages.

The template runs over contents that notice how they are used. What it only writes out, perhaps with
text before and behind it, it would write out the same whatever it were. Some questions are answered
as for an ordinary text and remembered (does it contain ``</think>``?): the shape then holds for the
contents for which the answers are right. Of a template that does anything else there is no shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from jinja2 import Environment
    from transformers import PreTrainedTokenizerBase

# Around a content's number, where it is rendered.
_OPEN, _CLOSE = "\ue000", "\ue001"
_CONTENT = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")

_GLOBALS = {"namespace", "raise_exception", "range"}
_TYPE_TESTS = frozenset(
    [
        "defined",
        "undefined",
        "none",
        "string",
        "mapping",
        "iterable",
        "sequence",
        "number",
        "boolean",
        "true",
        "false",
    ]
)
_FILTERS = ("length", "count", "list", "default")


class Shape(NamedTuple):
    """Texts and, between them, the numbers of the messages whose contents stand there.

    It holds for contents that :meth:`suits`.
    """

    parts: tuple[str | int, ...]
    questions: frozenset[tuple[str, str]]

    def suits(self, text: str) -> bool:
        """Whether the template would write ``text`` as it is, and nothing else for its sake."""
        return bool(text) and not any(_ANSWERS[name](text, what) for name, what in self.questions)


_ANSWERS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, what: what in text,
    "startswith": lambda text, what: text.startswith(what),
    "endswith": lambda text, what: text.endswith(what),
    "equals": lambda text, what: text == what,
    "trim": lambda text, _: text != text.strip(),
}


class LookedAtError(Exception):
    """A template does more with a content than to write it out."""


class TemplateShapes:
    """The shapes of the prompts of ``tokenizer``, by the roles of their messages."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._template = _watching(tokenizer)

    def of(self, roles: Sequence[str]) -> Shape | None:
        """That of a prompt with messages of these ``roles``, ready for a reply, if there is one."""
        from jinja2 import TemplateError

        if self._template is None:
            return None
        questions: set[tuple[str, str]] = set()
        messages = [
            {"role": role, "content": _Content.numbered(number, questions)}
            for number, role in enumerate(roles)
        ]
        try:
            written = self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                enable_thinking=False,
                **self._tokenizer.special_tokens_map,
            )
        except (TemplateError, LookedAtError, TypeError):
            return None
        parts = _CONTENT.split(written)
        shape = [int(part) if at % 2 else part for at, part in enumerate(parts)]
        return Shape(tuple(part for part in shape if part != ""), frozenset(questions))


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise LookedAtError


class _Written(str):
    """Text with contents in it. Nothing may be done with it but to write it."""

    __slots__ = ("questions",)

    def __add__(self, other: str) -> _Written:
        return _Written(str(self) + str(other))

    def __radd__(self, other: str) -> _Written:
        return _Written(str(other) + str(self))


class _Content(_Written):
    """A content by itself, about which some questions are allowed."""

    __slots__ = ()
    questions: set[tuple[str, str]]

    @classmethod
    def numbered(cls, number: int, questions: set[tuple[str, str]]) -> _Content:
        content = cls(f"{_OPEN}{number}{_CLOSE}")
        content.questions = questions
        return content

    def trimmed(self) -> _Content:
        self.questions.add(("trim", ""))
        return self

    def _ask(self, name: str, *what: Any) -> bool:
        if len(what) != 1 or type(what[0]) is not str:
            raise LookedAtError
        self.questions.add((name, what[0]))
        return False

    def __contains__(self, what: Any) -> bool:
        return self._ask("contains", what)

    def startswith(self, *what: Any) -> bool:
        return self._ask("startswith", *what)

    def endswith(self, *what: Any) -> bool:
        return self._ask("endswith", *what)

    def __eq__(self, other: object) -> bool:
        return self._ask("equals", other)

    def __ne__(self, other: object) -> bool:
        return not self._ask("equals", other)

    def __bool__(self) -> bool:
        return True  # no shape suits an empty text

    __hash__ = _refuse


_NEEDED = {"__new__", "__init__", "__class__", "__getattribute__", "__setattr__", "__delattr__"} | {
    *("__str__", "__dir__", "__doc__", "__init_subclass__", "__subclasshook__", "__add__"),
    *("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__sizeof__"),
}
for _name in {*dir(str), "__bool__", "__rmod__"} - _NEEDED:
    setattr(_Written, _name, _refuse)


def _watching(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The template, made so that it cannot look at a content unnoticed; ``None`` if it might."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    source = tokenizer.chat_template
    if not isinstance(source, str) or _OPEN in source:
        return None
    environment = _compile_jinja_template(source).environment.overlay()
    environment.filters = {name: _filter(name, environment) for name in environment.filters}
    environment.tests = {name: _test(name, environment) for name in environment.tests}
    environment.globals = {
        name: value if name in _GLOBALS else _refuse for name, value in environment.globals.items()
    }
    try:
        is_plain = _is_plain(environment, source)
        return environment.from_string(source) if is_plain else None
    except (TemplateError, LookedAtError):
        return None


def _filter(name: str, environment: Environment) -> Callable[..., Any]:
    original: Callable[..., Any] = environment.filters[name]

    def watched(value: Any, *arguments: Any, **named: Any) -> Any:
        if name == "trim" and isinstance(value, _Content) and not (arguments or named):
            return value.trimmed()
        if name not in _FILTERS or any(map(_is_written, (value, *arguments, *named.values()))):
            raise LookedAtError
        return original(value, *arguments, **named)

    return watched


def _test(name: str, environment: Environment) -> Callable[..., Any]:
    original: Any = environment.tests[name]

    def watched(value: Any, *arguments: Any) -> Any:
        if name not in _TYPE_TESTS:
            raise LookedAtError
        return original(value, *arguments)

    return watched


def _is_written(value: Any) -> bool:
    return isinstance(value, str) and _OPEN in str(value)


def _is_plain(environment: Environment, source: str) -> bool:
    """Whether the template has no means by which it might look at a content unnoticed.

    Macros, blocks and ``~`` make plain strings of contents; a plain string's method reads its
    arguments; ``content in 'text'`` reads the content.
    """
    from jinja2 import nodes

    tree = environment.parse(source)
    hiding = (
        *(nodes.Concat, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock),
        *(nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport),
    )
    if next(tree.find_all(hiding), None) is not None:
        return False
    for call in tree.find_all(nodes.Call):
        if call.dyn_args or call.dyn_kwargs:
            return False
        is_global = isinstance(call.node, nodes.Name) and call.node.name in _GLOBALS
        if not is_global and not all(isinstance(one, nodes.Const) for one in call.args):
            return False
        if not is_global and call.kwargs:
            return False
    for compare in tree.find_all(nodes.Compare):
        is_known = isinstance(compare.expr, nodes.Const)
        for operand in compare.ops:
            is_listed = isinstance(operand.expr, nodes.List | nodes.Tuple)
            if operand.op in ("in", "notin") and not (is_known or is_listed):
                return False
    return True
