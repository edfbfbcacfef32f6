"""What a whole reply may read like, as a grammar in llguidance's form of Lark.

An answer's form is a grammar of its own (:mod:`server.engine.forms`), to which this one refers.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md describes the form. A rule that
is ``[lazy]`` ends as soon as it can, so a mark in running text is seen wherever tokens end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from server.engine.dialect import CALL, CALL_END, THINK, THINK_END
from server.engine.errors import GrammarInvalid
from server.engine.schema_objects import closed
from server.engine.types import Function, Shape

# No free white space: a small model may otherwise go on with it for ever.
_COMPACT = {"whitespace_flexible": False}
# In calls it is where Qwen's models have learnt to put it.
_SPACED = _COMPACT | {"item_separator": ", ", "key_separator": ": "}


def schemas_of(shape: Shape) -> list[str]:
    """The JSON schemas in ``shape`` as text: of the answer, if it has one, then of each function.

    Raises:
        GrammarInvalid: one of a function is not about objects.
    """
    answer = [] if shape.schema is None else [_text(shape.schema, _COMPACT)]
    return [*answer, *map(_arguments, range(len(shape.functions)), shape.functions)]


def _text(schema: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """In its own order, which is that of the reply; the options are ours and not the client's."""
    return json.dumps({**closed(schema), "x-guidance": options}, ensure_ascii=False)


def _arguments(index: int, function: Function) -> str:
    kind = function.parameters.get("type", "object")
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        raise GrammarInvalid(f'its type has to be "object", not {kind!r:.40}.', index)
    return _text({**function.parameters, "type": "object"}, _SPACED)


def lark_of(
    shape: Shape, schemas: Sequence[str], marks: Mapping[str, int] = MappingProxyType({})
) -> str:
    """The grammar of ``shape`` with its ``schemas``.

    ``marks`` are those that have a token of their own, with its id; in running text they count in
    any spelling, as the reader of a reply sees its text alone.
    """
    return "\n".join(_Rules(shape, schemas, marks).lines()) + "\n"


def together(lark: str, form: str) -> str:
    """The grammar ``lark`` of a shape with that of its ``form``, as llguidance takes several."""
    return json.dumps(
        {"grammars": [{"lark_grammar": lark}, {"name": "form", "lark_grammar": form}]}
    )


class _Rules:
    def __init__(self, shape: Shape, schemas: Sequence[str], marks: Mapping[str, int]) -> None:
        self._shape = shape
        self._marks = marks
        first = 0 if shape.schema is None else 1
        self._answer, self._arguments = schemas[:first], schemas[first:]

    def lines(self) -> Iterator[str]:
        yield "%llguidance {}"
        yield f"start: {self._start()}"
        yield r"ANY: /(.|\n)*/"
        # Where a thought is possible, what begins like one is one.
        yield rf"TEXT: /(.|\n)*/ & ~/{THINK}(.|\n)*/"
        yield r'gap: ("\n" "\n"?)?'
        yield from self._up_to("thought", "ANY", THINK_END)
        yield from self._up_to("opening", "TEXT", CALL)
        if self._answer:
            yield f"answer: %json {self._answer[0]}"
        if self._shape.form is not None:
            yield "answer: @form"
        if self._arguments:
            yield from self._calls()

    def _start(self) -> str:
        match self._shape.thought:
            case "open":
                return f"thought gap ({self._reply()})"
            case "possible":
                return f"({self._mark(THINK)} thought gap)? ({self._reply()})"
            case _:
                return self._reply()

    def _reply(self) -> str:
        """After the thought: an answer or calls."""
        calls = f"{self._mark(CALL)} body more"
        if self._shape.must_call:
            return calls
        if self._answer or self._shape.form is not None:
            return f"answer | {calls}" if self._arguments else "answer"
        return "TEXT | opening body more"

    def _calls(self) -> Iterator[str]:
        names = " | ".join(f"call_{index}" for index in range(len(self._arguments)))
        yield rf'body: "\n" ({names}) "\n" {self._mark(CALL_END)}'
        again = rf'("\n" {self._mark(CALL)} body)*'
        yield f"more: {'' if self._shape.at_most_one else again}"
        for index, schema in enumerate(self._arguments):
            name = json.dumps(self._shape.functions[index].name, ensure_ascii=False)
            head = _literal(f'{{"name": {name}, "arguments": ')
            yield f'call_{index}: {head} %json {schema} "}}"'

    def _up_to(self, rule: str, text: str, mark: str) -> Iterator[str]:
        """A rule for ``text`` with the ``mark`` that ends it, as a token or spelled."""
        yield f"{rule}_spelled[lazy]: {text} {_literal(mark)}"
        token = f" | {text} {self._mark(mark)}" if mark in self._marks else ""
        yield f"{rule}: {rule}_spelled{token}"

    def _mark(self, mark: str) -> str:
        return f"<[{self._marks[mark]}]>" if mark in self._marks else _literal(mark)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
