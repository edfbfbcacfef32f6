"""The vocabulary of the models that this is for: what is quick, or held to a form, is right in it.

Other tests do with small ones, made so that tokens lie as awkwardly as they can.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from adapters.base import read_base
from server.engine.guidance import Guidance
from server.engine.tokenizer import Tokenizer
from server.engine.types import Function, Shape
from server.replies.parts import CallPart, ContentPart
from server.replies.qwen_reader import QwenReader
from tests.server.engine.walking import walk
from tests.tiny import tiny_base
from tests.training.data.test_assembly import QWEN3_LIKE, alone
from tests.vocabulary import qwen_ranks, qwen_tokenizer
from training.data.assembly import Assembler
from training.data.dialogue import Dialogue
from training.data.encode import Encoding
from training.data.roles import RolePolicy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.slow

SYSTEM = "你是一个乐于助人的AI助手。"
FIRST_CONTROL = 151_643
# What composes with the character before it, and what is outside the first plane, among them.
ANY = [
    *range(0x20, 0x250),
    *range(0x3000, 0x4000),
    *range(0x300, 0x320),
    *range(0xF900, 0xF920),
    *range(0x1F600, 0x1F640),
    0x200D,
    0xFE0F,
]
MARKS = ["", "", "", "", "，", "。", "…", "！？", " ", "\n"]
SCHEMA = {
    "type": "object",
    "properties": {
        "城市": {"type": "string", "maxLength": 4},
        "天": {"type": "integer", "minimum": 1, "maximum": 7},
        "天气": {"enum": ["晴", "雨", "🌧️"]},
    },
    "required": ["城市", "天", "天气"],
    "additionalProperties": False,
}


class Speaker:
    """Texts without end: words of the vocabulary, and characters of it or not, marks between."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        every = map(tokenizer.decode, range(FIRST_CONTROL))
        self._words = [word for word in every if "�" not in word]
        self._chinese = [word for word in self._words if all("一" <= sign <= "龥" for sign in word)]

    def texts(self, seed: str) -> Iterator[str]:
        rng = random.Random(seed)
        while True:
            length = rng.randint(1, 8)
            said = rng.choices(self._chinese, k=length)
            kind = rng.random()
            if kind < 0.2:
                said = rng.choices(self._words, k=length)
            elif kind < 0.4:
                said = [chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(length)]
            elif kind < 0.5:
                said = [chr(code) for code in rng.choices(ANY, k=length)]
            yield "".join(word + rng.choice(MARKS) for word in said)


@pytest.fixture(scope="module")
def qwen() -> PreTrainedTokenizerFast:
    return qwen_tokenizer(QWEN3_LIKE)


@pytest.fixture(scope="module")
def speaker(qwen: PreTrainedTokenizerFast) -> Speaker:
    return Speaker(qwen)


@pytest.fixture(scope="module")
def served(qwen: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """As the engine has it, through files."""
    path: Path = tiny_base(tmp_path_factory.mktemp("bases") / "tiny", tokenizer=qwen)
    return Tokenizer(read_base(path, "tiny"))


@pytest.fixture(scope="module")
def guidance(qwen: PreTrainedTokenizerFast) -> Guidance:
    return Guidance(qwen, 151_936)


def test_it_is_qwens(qwen: PreTrainedTokenizerFast) -> None:
    """Known ids, and a sentence as it is cut."""
    ids = [qwen.convert_tokens_to_ids(each) for each in ("<|im_start|>", "<|im_end|>", "</think>")]
    assert (len(qwen), ids) == (151_669, [151_644, 151_645, 151_668])
    tokens = qwen("今天天气真好啊,我们去哪里玩？")["input_ids"]
    cut = [qwen.decode(token) for token in tokens]
    assert cut == ["今天", "天气", "真", "好", "啊", ",", "我们", "去哪里", "玩", "？"]


@pytest.mark.parametrize("system", [None, SYSTEM])
@pytest.mark.parametrize("policy", get_args(RolePolicy))
def test_many_dialogues_are_what_each_is_alone(
    qwen: PreTrainedTokenizerFast, speaker: Speaker, policy: RolePolicy, system: str | None
) -> None:
    """Of words of the vocabulary, of any Han characters, and of any characters; the quick way."""
    texts = speaker.texts(policy)
    encoding = Encoding(system, 512, policy)
    assembler = Assembler(qwen, encoding)
    many = [Dialogue(list(islice(texts, 2 + count % 5))) for count in range(600)]
    for _ in range(2):  # what was met before is looked up
        assert assembler.encode(many).equals(alone(qwen, many, encoding))
    assert assembler._is_quick


def test_the_engine_knows_every_tokens_bytes(served: Tokenizer) -> None:
    """Parts of characters among them; what is behind the vocabulary reads as nothing."""
    for token, index in qwen_ranks().items():
        assert served.piece(index).text == token
    assert served.piece(151_700).text == b""
    assert served.piece(151_644).text == b""


def test_texts_come_back(speaker: Speaker, served: Tokenizer) -> None:
    """Composed as Unicode has it (NFC), which the tokenizer does first."""
    for text in islice(speaker.texts("back"), 300):
        assert served.text(served.encode(text)) == unicodedata.normalize("NFC", text)


def test_the_template_is_understood(served: Tokenizer) -> None:
    """It thinks where it is asked to; a prompt of a chat begins with the system's turn."""
    assert served.dialect.can_choose
    assert served.dialect.thought_off == "none"


def test_answers_are_of_their_schema(qwen: PreTrainedTokenizerFast, guidance: Guidance) -> None:
    """Whatever tokens a model likes, characters in parts too."""
    make = guidance.of_shape(Shape(schema=SCHEMA))
    whole = 0
    for seed in range(12):
        text, has_ended = walk(make(), qwen, seed)
        if has_ended:
            whole += 1
            found = json.loads(text)
            assert list(found) == SCHEMA["required"]
            assert 1 <= found["天"] <= 7
            assert len(found["城市"]) <= 4
            assert found["天气"] in ("晴", "雨", "🌧️")
    assert whole


def test_calls_are_of_their_function(qwen: PreTrainedTokenizerFast, guidance: Guidance) -> None:
    """The mark of a call is a token of its own here, or letters of others."""
    shape = Shape(functions=(Function(name="weather", parameters=SCHEMA),), must_call=True)
    make = guidance.of_shape(shape)
    calls = 0
    for seed in range(6):
        text, has_ended = walk(make(), qwen, seed)
        reader = QwenReader(thought="none", functions=["weather"])
        parts = [*reader.feed(text), *reader.finish()]
        if has_ended:
            assert reader.has_calls  # noqa: PGH005 - no mock
            assert not any(isinstance(part, ContentPart) for part in parts)
            calls += sum(isinstance(part, CallPart) for part in parts)
    assert calls
