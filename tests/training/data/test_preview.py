"""Previews: the text a person sees is the text the model gets."""

from __future__ import annotations

from pathlib import Path

from adapters.manifest import SEED_SYSTEM_PROMPT
from tests.tiny import tiny_base
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.data.preview import Preview, preview_roles, preview_tokens
from training.data.token_cache import load_tokenizer

DIALOGUE = ["哟", "吃了吗", "吃了", "吃的啥", "火锅"]


def text_of(preview: Preview) -> str:
    return "".join(span.text for span in preview.spans)


def learnt(preview: Preview) -> list[str]:
    return [span.text for span in preview.spans if span.is_target]


def test_a_preview_by_roles_shows_every_utterance_and_marks_replies() -> None:
    """A line an utterance; the assistant's opening is not marked."""
    (preview,) = preview_roles(Dialogue(DIALOGUE))
    assert text_of(preview) == (
        "assistant  哟\nuser       吃了吗\nassistant  吃了\nuser       吃的啥\nassistant  火锅\n"
    )
    assert learnt(preview) == ["吃了", "火锅"]
    assert (preview.tokens, preview.target_tokens) == (None, None)


def test_a_preview_by_roles_follows_the_policy_and_the_system_prompt() -> None:
    """Every conversation that is learnt from a dialogue is shown; its own prompt comes first."""
    both = preview_roles(Dialogue(DIALOGUE, "猫"), "every-reply", "狗")
    assert [learnt(preview) for preview in both] == [["吃了", "火锅"], ["吃了吗", "吃的啥"]]
    assert all(text_of(preview).startswith("system     猫\n") for preview in both)
    (last,) = preview_roles(Dialogue(DIALOGUE), "last-only", "狗")
    assert learnt(last) == ["火锅"]
    assert text_of(last).startswith("system     狗\n")


def test_a_preview_by_tokens_is_the_encoding(tmp_path: Path) -> None:
    """Loaded from a base's directory; its spans are the decoded sequence, its counts the mask's."""
    tokenizer = load_tokenizer(tiny_base(tmp_path))
    (preview,) = preview_tokens(tokenizer, Dialogue(DIALOGUE))
    (example,) = encode_dialogue(
        tokenizer, Dialogue(DIALOGUE), Encoding(SEED_SYSTEM_PROMPT, max_length=512)
    )
    assert "".join(span.text for span in preview.spans) == tokenizer.decode(example.ids)
    learnt = [span.text for span in preview.spans if span.is_target]
    assert learnt == ["吃了<|im_end|>", "火锅<|im_end|>"]
    assert (preview.tokens, preview.target_tokens) == (len(example.ids), example.targets)


def test_a_preview_of_single_tokens_has_every_id(tmp_path: Path) -> None:
    """Bytes that are a character only together are one span; text and ids are the whole's."""
    tokenizer = load_tokenizer(tiny_base(tmp_path))
    dialogue, encoding = Dialogue(["a早", "火😀"]), Encoding("猫", 512)
    (preview,) = preview_tokens(tokenizer, dialogue, encoding, one_by_one=True)
    (example,) = encode_dialogue(tokenizer, dialogue, encoding)
    assert [token for span in preview.spans for token in span.ids or ()] == example.ids
    assert text_of(preview) == tokenizer.decode(example.ids)
    assert learnt(preview) == ["火", "😀", "<|im_end|>"]
    assert [len(span.ids or ()) for span in preview.spans[-3:]] == [3, 4, 1]


def test_a_character_that_is_cut_is_shown_as_such(tmp_path: Path) -> None:
    """Each of its bytes by itself, rather than with what follows."""
    tokenizer = load_tokenizer(tiny_base(tmp_path))
    whole = encode_dialogue(tokenizer, Dialogue(["a", "火"]), Encoding(None, 512))[0]
    (preview,) = preview_tokens(
        tokenizer, Dialogue(["a", "火"]), Encoding(None, len(whole.ids) - 2), one_by_one=True
    )
    assert learnt(preview) == ["\ufffd", "\ufffd"]
