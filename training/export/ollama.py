"""Ollama's Modelfile for a merged base: the chat template in Go's language, prompt and sampling.

The template is read off what the base's own makes of four conversations, and held against it on
others before it is written; one that Ollama would render in another way is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from jinja2 import TemplateError

from adapters.base import Base
from adapters.manifest import SamplingDefaults
from training.errors import ExportFailed
from training.scores.replies import end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODELFILE = "Modelfile"
ROLES = ("system", "user", "assistant")
# Ollama's name for each of our sampling defaults.
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
    "max_tokens": "num_predict",
}
_SYSTEM, _USER, _REPLY, _NEXT = "⟦s⟧", "⟦u⟧", "⟦a⟧", "⟦n⟧"


class TurnForm(NamedTuple):
    """What stands around each turn. ``roles``: what is before and after the content."""

    start: str
    roles: Mapping[str, tuple[str, str]]
    opening: str

    def rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of ``messages``, as the Go template gives it."""
        turns = (
            f"{self.roles[one['role']][0]}{one['content']}{self.roles[one['role']][1]}"
            for one in messages
        )
        return f"{self.start}{''.join(turns)}{self.opening}"

    @property
    def go_template(self) -> str:
        """The same for Ollama, which gives it ``.Messages``."""
        cases = [
            f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
            for word, (role, (before, after)) in zip(
                ("if", "else if", "else if"), self.roles.items(), strict=True
            )
        ]
        turns = "{{ range .Messages }}" + "".join(cases) + "{{ end }}{{ end }}"
        return f"{self.start}{turns}{self.opening}"


def turn_form(tokenizer: PreTrainedTokenizerBase, *, has_system: bool) -> TurnForm:
    """The form of turns in the tokenizer's chat template.

    With ``has_system`` there is always a system prompt, and only such conversations are looked at.

    Raises:
        ExportFailed: the template cannot be said in this form.
    """
    try:
        for form in _candidates(tokenizer):
            if _is_right(tokenizer, form, has_system=has_system):
                return form
    except (TemplateError, ValueError):
        pass  # it refuses plain conversations, or does not show what was said
    raise ExportFailed(
        "The base's chat template cannot be written as a template of Ollama's that gives the same "
        "prompts; export as peft or merge instead."
    )


def _candidates(tokenizer: PreTrainedTokenizerBase) -> Iterator[TurnForm]:
    """Forms that the template may have, by where a user's turn is taken to begin."""
    talk = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": _USER},
        {"role": "assistant", "content": _REPLY},
        {"role": "user", "content": _NEXT},
    ]
    before_system, rest = _rendered(tokenizer, talk).split(_SYSTEM)
    to_user, rest = rest.split(_USER)
    to_reply, rest = rest.split(_REPLY)
    to_next, after_user = rest.split(_NEXT)
    asked = _rendered(tokenizer, talk, is_open=True).split(_NEXT)[1]
    alone = _rendered(tokenizer, talk[1:2]).split(_USER)[0]
    common = _common_end(to_user, to_next, alone)
    marks = (mark for mark in tokenizer.all_special_tokens if before_system.startswith(mark))
    for user in (common, *(to_user[to_user.rfind(mark) :] for mark in marks if mark in to_user)):
        start = alone.removesuffix(user) if user == common else ""
        roles = {
            "system": (before_system.removeprefix(start), to_user.removesuffix(user)),
            "user": (user, after_user),
            "assistant": (to_reply.removeprefix(after_user), to_next.removesuffix(user)),
        }
        yield TurnForm(start, roles, asked.removeprefix(after_user))


def _common_end(*texts: str) -> str:
    """The longest end that all of ``texts`` have."""
    many = 0
    for characters in zip(*(reversed(text) for text in texts), strict=False):
        if len(set(characters)) > 1:
            break
        many += 1
    return texts[0][len(texts[0]) - many :]


def _is_right(tokenizer: PreTrainedTokenizerBase, form: TurnForm, *, has_system: bool) -> bool:
    texts = "你好", "Hello, 123!", "再见\n明天见", "<b>嗯</b>", "好 的"
    turns = [{"role": ROLES[1 + index % 2], "content": text} for index, text in enumerate(texts)]
    system = {"role": "system", "content": "你是一只猫。"}
    talks = [[system, *turns[:many]] for many in (1, 3, 5)]
    if not has_system:
        talks += [turns[:many] for many in (1, 3, 5)]
    return "{{" not in form.rendered(turns) and all(
        form.rendered(talk) == _rendered(tokenizer, talk, is_open=True) for talk in talks
    )


def _rendered(
    tokenizer: PreTrainedTokenizerBase, talk: list[dict[str, str]], *, is_open: bool = False
) -> str:
    return tokenizer.apply_chat_template(
        talk, add_generation_prompt=is_open, tokenize=False, enable_thinking=False
    )


def modelfile(
    base: Base,
    tokenizer: PreTrainedTokenizerBase,
    system_prompt: str | None,
    sampling: SamplingDefaults,
    source: str,
) -> str:
    """The Modelfile of the merged checkpoint in ``source`` (a directory or a GGUF beside it).

    Raises:
        ExportFailed: template or system prompt cannot be written for Ollama.
    """
    form = turn_form(tokenizer, has_system=system_prompt is not None)
    lines = [f"FROM {source}", f"TEMPLATE {_quoted(form.go_template)}"]
    if system_prompt is not None:
        lines.append(f"SYSTEM {_quoted(system_prompt)}")
    given = msgspec.structs.asdict(sampling)
    lines += [
        f"PARAMETER {theirs} {given[ours]:g}"
        for ours, theirs in PARAMETERS.items()
        if given[ours] is not None
    ]
    ends = map(tokenizer.convert_ids_to_tokens, sorted(end_tokens(base, tokenizer)))
    lines += [f'PARAMETER stop "{end}"' for end in ends]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    if '"""' in text or text.endswith('"'):
        raise ExportFailed("A Modelfile cannot hold three quotes, or one at the end of a text.")
    return f'"""{text}"""'
