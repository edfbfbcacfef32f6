"""What one record of a file says: a list of utterances, messages with roles, or a question.

Both of the usual shapes of messages are read: OpenAI's (``messages`` with ``role`` and
``content``) and ShareGPT's (``conversations`` with ``from`` and ``value``). So are questions with
their answers, as Alpaca has them (``instruction``, ``input``, ``output``), with the ``system`` and
``history`` that LLaMA-Factory knows beside them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from training.data.dialogue import RawDialogue, Role
from training.data.stream import Malformed, json_kind, parse

UTTERANCES = "dialog"
MESSAGES = ("messages", "conversations", "conversation")

# Of a question and its answer.
PAIRS = (
    ("instruction", "output"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("query", "response"),
    ("question", "answer"),
)

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
SYSTEM = ("system", "developer")


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """A record with utterances, as on the Hub."""

    dialog: list[str]


_quick = msgspec.json.Decoder(list[str] | _Row)


def parse_dialogue(line: bytes) -> RawDialogue:
    """The dialogue in a line of JSON.

    Raises:
        Malformed: it is no JSON, naming the column, or has none of the known shapes.
        UnicodeDecodeError: it is no UTF-8.
    """
    try:
        found = _quick.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # of another shape, or wrong, which is for the one who can say where
        return dialogue_of(parse(line.decode("utf-8").strip()))
    return RawDialogue(found if isinstance(found, list) else found.dialog)


def dialogue_of(value: Any) -> RawDialogue:
    """The dialogue in one decoded record.

    Raises:
        Malformed: it has none of the known shapes; the message names the place.
    """
    if isinstance(value, list):
        return RawDialogue(_utterances(value))
    if not isinstance(value, dict):
        raise Malformed(f"expected a list of utterances, found {json_kind(value)}")
    if UTTERANCES in value:
        return RawDialogue(_utterances(value[UTTERANCES]))
    for key in MESSAGES:
        if key in value:
            return _conversation(value, key)
    for question, answer in PAIRS:
        if question in value and answer in value:
            return _answered(value, question, answer)
    raise Malformed(
        f'the object has no key "{UTTERANCES}", "{MESSAGES[0]}" or "{MESSAGES[1]}", and no '
        f'"{PAIRS[0][0]}" with "{PAIRS[0][1]}" or another such pair'
    )


def _utterances(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Malformed(f"expected a list of utterances, found {json_kind(value)}")
    for index, utterance in enumerate(value, start=1):
        if not isinstance(utterance, str):
            raise Malformed(f"utterance {index} is {json_kind(utterance)}, not a string")
    return value


def _conversation(record: dict[str, Any], key: str) -> RawDialogue:
    """``record[key]`` as a dialogue with roles; system messages are its system prompt."""
    if not isinstance(record[key], list):
        raise Malformed(f"{key} is {json_kind(record[key])}, not a list of messages")
    system = [record["system"]] if isinstance(record.get("system"), str) else []
    texts: list[str] = []
    roles: list[Role] = []
    for index, message in enumerate(record[key]):
        place = f"{key}[{index}]"
        speaker, text = _message(message, place)
        if text is None:
            return RawDialogue([], fault=f"{place} is not text alone")
        if speaker in SYSTEM and not texts:
            system.append(text)
        elif speaker in ROLES:
            texts.append(text)
            roles.append(ROLES[speaker])
        else:
            where = " after the first" if speaker in SYSTEM else ""
            return RawDialogue([], fault=f"{place} is of the role '{speaker}'{where}")
    return RawDialogue(texts, roles, "\n".join(filter(None, system)) or None)


def _answered(record: dict[str, Any], question: str, answer: str) -> RawDialogue:
    """A question, after those of its history, and the answer; ``input`` is more of the question."""
    if isinstance(record[question], list) and isinstance(record[answer], list):
        joined = {"messages": record[question] + record[answer], "system": record.get("system")}
        return _conversation(joined, "messages")  # TRL's, in two parts
    asked = [_text(record, question)]
    if question == "instruction":
        asked.append(_text(record, "input"))
    texts = [*_history(record), "\n".join(filter(None, asked)), _text(record, answer)]
    roles: list[Role] = ["user", "assistant"]
    return RawDialogue(texts, roles * (len(texts) // 2), _text(record, "system") or None)


def _history(record: dict[str, Any]) -> list[str]:
    turns = record.get("history") or []
    if not isinstance(turns, list):
        raise Malformed(f"history is {json_kind(turns)}, not a list of pairs")
    for index, turn in enumerate(turns):
        if not isinstance(turn, list) or [type(text) for text in turn] != [str, str]:
            raise Malformed(f"history[{index}] is no pair of texts")
    return [text for turn in turns for text in turn]


def _text(record: dict[str, Any], key: str) -> str:
    text = record.get(key)
    if text is not None and not isinstance(text, str):
        raise Malformed(f"{key} is {json_kind(text)}, not a string")
    return text or ""


def _message(message: Any, place: str) -> tuple[str, str | None]:
    """Who speaks and what; no text where there is other content than text."""
    if not isinstance(message, dict):
        raise Malformed(f"{place} is {json_kind(message)}, not a message")
    speaker_key = "role" if "role" in message else "from"
    speaker = message.get(speaker_key)
    if not isinstance(speaker, str):
        raise Malformed(f"{place} has no role")
    if any(message.get(key) for key in ("tool_calls", "function_call")):
        return speaker.lower(), None
    content = message.get("content" if "content" in message else "value")
    if isinstance(content, list):
        content = _text_of_parts(content)
    elif content is not None and not isinstance(content, str):
        raise Malformed(f"{place} is {json_kind(content)}, not a string")
    return speaker.lower(), content


def _text_of_parts(parts: list[Any]) -> str | None:
    """The text of OpenAI's content parts; ``None`` where one is not text."""
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in parts
    ]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None  # type: ignore[arg-type] # all are
