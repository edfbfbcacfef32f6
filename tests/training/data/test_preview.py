"""Previews: the text a person sees is the text the model gets."""

from __future__ import annotations

from pathlib import Path

from adapters.manifest import SEED_SYSTEM_PROMPT
from tests.tiny import tiny_base
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.data.preview import preview_roles, preview_tokens
from training.data.token_cache import load_tokenizer

DIALOGUE = ["哟", "吃了吗", "吃了", "吃的啥", "火锅"]


def test_a_preview_by_roles_shows_every_utterance_and_marks_replies() -> None:
    """A line an utterance; the assistant's opening is not marked."""
    preview = preview_roles(DIALOGUE)
    assert "".join(span.text for span in preview.spans) == (
        "assistant  哟\nuser       吃了吗\nassistant  吃了\nuser       吃的啥\nassistant  火锅\n"
    )
    assert [span.text for span in preview.spans if span.is_target] == ["吃了", "火锅"]
    assert (preview.tokens, preview.target_tokens) == (None, None)


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
