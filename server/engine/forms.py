"""What an answer may read like that is not JSON, as a grammar of its own for llguidance.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md describes its form of Lark, and
https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md GBNF, which begins at ``root``.
"""

from __future__ import annotations

import json
import re

from server.engine.errors import GrammarInvalid
from server.engine.types import Form

MOST_BYTES = 64 * 1024

# An escaped slash or line end first, then any other pair, so that ``\\/`` is one pair and a slash.
_IN_REGEX = re.compile(r"\\?/|\\?\n|\\.", re.DOTALL)
# What may hold any text in Lark: strings, regular expressions, comments.
_QUOTED = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/(?:\\.|[^/\\\n])+/|#[^\n]*')


def lark_of_form(form: Form) -> str:
    """The grammar of ``form``, in Lark.

    Raises:
        GrammarInvalid: it is too large, cannot be read, or is about tokens rather than text.
    """
    size = sum(len(text.encode()) for text in (*form.choices, form.regex or "", form.grammar or ""))
    if size > MOST_BYTES:
        raise GrammarInvalid(
            f"there are {size} bytes; at most {MOST_BYTES} are accepted.", what=noun_of(form)
        )
    if form.regex is not None:
        return f"start: /{_IN_REGEX.sub(_escaped, form.regex)}/\n"
    if form.grammar is not None:
        return _lark(form.grammar)
    # One terminal, in which beginnings are shared: thousands of rules would be too many.
    choices = " | ".join(json.dumps(one, ensure_ascii=False) for one in form.choices)
    return f"start: CHOICE\nCHOICE: {choices}\n"


def noun_of(form: Form) -> str:
    """What to call it in a refusal."""
    if form.regex is not None:
        return "regular expression"
    return "choices" if form.grammar is None else "grammar"


def _escaped(found: re.Match[str]) -> str:
    match found[0][-1]:
        case "/":
            return r"\/"
        case "\n":
            return r"\n"
        case _:
            return found[0]


def _lark(grammar: str) -> str:
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        lark = str(any_to_lark(grammar))
    except RecursionError as error:
        raise GrammarInvalid("it is nested too deeply.", what="grammar") from error
    except Exception as error:  # of no class of its own, whatever is wrong with the text
        raise GrammarInvalid(
            "it is neither Lark (with a rule `start: …`) nor GBNF (with a rule `root ::= …`): "
            f"{error}.",
            what="grammar",
        ) from error
    if "<" in _QUOTED.sub("", lark):
        raise GrammarInvalid("it names tokens (<…>), and may only be about text.", what="grammar")
    return lark
