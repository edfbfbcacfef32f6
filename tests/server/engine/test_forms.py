"""Answers of a form that is no JSON: whatever a model likes to say, they are of it."""

from __future__ import annotations

import re

import pytest
from transformers import PreTrainedTokenizerFast

from server.engine.errors import GrammarInvalid
from server.engine.forms import lark_of_form
from server.engine.guidance import Guidance
from server.engine.types import Form, Shape
from tests.server.engine.walking import allowed, walk
from tests.tiny import MARKS, byte_tokenizer

NASTY = (' b"\\\n', "/x/ // y", "<|im_end|>", "猫", "猫狗")
GBNF = """
# What a cat says.
root ::= "喵" (" 喵"){1,3} the-end
the-end ::= [～！] | "<|im_end|>"
"""
SEEDS = range(8)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(MARKS)


@pytest.fixture(scope="module")
def guidance(tokenizer: PreTrainedTokenizerFast) -> Guidance:
    return Guidance(tokenizer, len(tokenizer))


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """These forms are harmless, and a process for each would take most of the time."""
    monkeypatch.setattr("server.engine.guidance.problem_of", lambda _: None)


def said(guidance: Guidance, tokenizer: PreTrainedTokenizerFast, shape: Shape) -> set[str]:
    """Whole replies of ``shape`` by a model that likes control tokens."""
    make = guidance.of_shape(shape)
    replies = [walk(make(), tokenizer, seed, likes=range(256, len(tokenizer))) for seed in SEEDS]
    return {text for text, has_ended in replies if has_ended}


@pytest.mark.usefixtures("untried")
def test_a_choice_is_one_of_them(guidance: Guidance, tokenizer: PreTrainedTokenizerFast) -> None:
    """Whatever stands in them; also the one that goes on where another ends."""
    replies = {
        reply
        for index in range(len(NASTY))
        for reply in said(guidance, tokenizer, Shape(form=Form(choices=NASTY[index:])))
    }

    assert replies == set(NASTY)


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    "regex", [r"[0-9]{4}-[ab]+/x", r"a\/b", "(?i)yes|no", "one\ntwo", r"^[猫狗]{2}\\/$"]
)
def test_all_of_a_reply_matches_the_regular_expression(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, regex: str
) -> None:
    """Slashes and line ends, which mean something to Lark, are text."""
    replies = said(guidance, tokenizer, Shape(form=Form(regex=regex)))

    assert replies
    assert all(re.fullmatch(regex, reply) for reply in replies)


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    "grammar", [GBNF, 'start: "喵" (" 喵"){1,3} END\nEND: /[～！]/ | "<|im_end|>"  # the end']
)
def test_a_reply_can_be_derived_from_the_grammar(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, grammar: str
) -> None:
    """In GBNF as in Lark; names of control tokens in its texts are spelled."""
    replies = said(guidance, tokenizer, Shape(form=Form(grammar=grammar)))

    assert replies
    assert all(re.fullmatch(r"喵( 喵){1,3}(～|！|<\|im_end\|>)", reply) for reply in replies)


@pytest.mark.usefixtures("untried")
def test_a_thought_comes_before_the_form(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast
) -> None:
    """It is held to nothing but its end."""
    grammar = guidance.of_shape(Shape(form=Form(choices=("猫",)), thought="open"))()
    for token in tokenizer.encode("so?</think>\n\n", add_special_tokens=False):
        assert token in allowed(grammar)
        grammar.accept(token)

    assert allowed(grammar) == tokenizer.encode("猫", add_special_tokens=False)[:1]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (Form(regex="(?=a)b"), "regular expression cannot be used: .*look-around.* not supported$"),
        (Form(regex="(a"), "unclosed group$"),
        (Form(grammar="start: nowhere"), r"grammar cannot be used: at 1\(8\): unknown name"),
        (Form(grammar="start: start"), "no text satisfies it"),
        (Form(grammar="root ::= nowhere"), "neither Lark .* nor GBNF .* 'nowhere' not found"),
        (Form(grammar="anything"), "neither Lark"),
        (Form(grammar="root ::= " + "(" * 20_000), "nested too deeply"),
        (Form(grammar='start: "<" <[1]>'), "names tokens"),
        (Form(choices=("x" * 70_000,)), "choices cannot be used: there are 70000 bytes"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    guidance: Guidance, form: Form, reason: str
) -> None:
    """In one line, about the form alone, before a reply begins."""
    with pytest.raises(GrammarInvalid, match=reason) as caught:
        guidance.of_shape(Shape(form=form))
    assert not caught.value.is_of_schema


def test_there_may_be_thousands_of_choices(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast
) -> None:
    """As rules they would be too many: llguidance bounds those that begin together."""
    choices = tuple(f"choice {number}" for number in range(4000))
    grammar = guidance.of_shape(Shape(form=Form(choices=choices)))()
    assert allowed(grammar) == tokenizer.encode("c", add_special_tokens=False)


def test_tokens_may_be_named_in_what_is_text() -> None:
    """Strings, regular expressions and comments say nothing of tokens."""
    lark = 'start: "<[1]>\\"" A // <[1]>\nA: /<[1]>\\//\n# <|im_end|>\n'
    assert lark_of_form(Form(grammar=lark)) == lark
