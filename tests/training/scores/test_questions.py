"""Questions: what models are asked, as the tokens that training and the server have."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from adapters.prompt import render_prompt
from tests.tiny import byte_tokenizer
from training.data.dialogue import Dialogue
from training.data.encode import Encoding
from training.errors import DataError
from training.scores.questions import PROMPTS_FILE, asked, asked_in, read_prompts

ENCODING = Encoding("你是猫。", 512)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


def test_a_dialogues_last_exchange_is_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    """The prompt is what the server renders for all before the last reply; monologues are left."""
    dialogues = [Dialogue(["一个人"]), Dialogue(["你好", "你好呀", "吃了吗", "吃了"])]
    messages = [
        {"role": "system", "content": "你是猫。"},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "你好呀"},
        {"role": "user", "content": "吃了吗"},
    ]

    (question,) = asked_in(dialogues, tokenizer, ENCODING, 5)

    assert list(question.prompt) == render_prompt(tokenizer, messages)
    assert (question.text, question.reference) == ("吃了吗", "吃了")
    assert asked_in(dialogues, tokenizer, ENCODING, 0) == []


def test_lines_of_a_file_are_conversations(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Tabs part turns, # begins a remark, also after a BOM; roles alternate from the user on."""
    file = tmp_path / "prompts.txt"
    file.write_text("# mine\n你好\n\n我病了\t多喝水\t好的\n", encoding="utf-8-sig")

    found = read_prompts(file)

    assert found == [["你好"], ["我病了", "多喝水", "好的"]]
    roles = ["user", "assistant", "user"]
    messages = [{"role": r, "content": t} for r, t in zip(roles, found[1], strict=True)]
    assert list(asked(found[1], tokenizer, None).prompt) == render_prompt(tokenizer, messages)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("你好\t你好呀\n", "line 1 has 2 turns"), ("# none\n", "no prompt"), ("好\t\t好", "empty")],
)
def test_a_file_that_says_nothing_to_answer_is_refused(
    text: str, complaint: str, tmp_path: Path
) -> None:
    """With the line."""
    (tmp_path / "bad.txt").write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match=complaint):
        read_prompts(tmp_path / "bad.txt")


def test_the_bundled_prompts_can_be_read() -> None:
    """They are what every evaluation asks unless told otherwise."""
    assert len(read_prompts(PROMPTS_FILE)) >= 10
