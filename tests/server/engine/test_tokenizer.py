"""The bytes behind tokens, against the tokenizers library's own decoding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from adapters.base import Base, read_base
from adapters.errors import BaseInvalid
from server.engine.errors import PromptInvalid
from server.engine.text import Detokenizer, Reply
from server.engine.tokenizer import Tokenizer, byte_pieces
from tests.tiny import MARKS, byte_tokenizer, tiny_base


def merged_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges that cut Chinese characters, and added tokens of both kinds."""
    from tokenizers.trainers import BpeTrainer

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["你好你们世界 hello hello", "您好世纪"] * 9, trainer)
    backend.add_tokens([AddedToken("<think>", special=False), AddedToken("思考", special=False)])
    backend.add_special_tokens(["<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """In the manner of Llama 2: ▁ for a space, single bytes as a fallback, one space stripped."""
    words = ["▁", "▁the", "▁你", "好", "a", "b", "▁▁", "<x>"]
    names = [*words, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: index for index, name in enumerate(names)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


MAKERS = [byte_tokenizer, merged_tokenizer, sentencepiece_tokenizer]
MADE = {maker.__name__: maker() for maker in MAKERS}
PIECES = {name: byte_pieces(tokenizer) for name, tokenizer in MADE.items()}


def streamed(name: str, tokens: list[int]) -> tuple[list[str], str]:
    pieces, strips = PIECES[name]
    reply = Reply(Detokenizer(pieces, strips_first_space=strips))
    return [reply.feed(token) for token in tokens], reply.finish()


@pytest.mark.parametrize("name", ["byte_tokenizer", "merged_tokenizer"])
@given(data=st.data())
def test_any_byte_level_tokens_stream_to_what_the_library_decodes(
    name: str, data: st.DataObject
) -> None:
    """Deltas and the end together are the library's decoding, for any tokens whatever."""
    size = len(MADE[name])
    tokens = data.draw(st.lists(st.integers(0, size - 1), max_size=30))
    deltas, rest = streamed(name, tokens)
    expected = MADE[name].backend_tokenizer.decode(tokens, skip_special_tokens=True)
    assert "".join(deltas) + rest == expected


@given(st.text(alphabet="你好 the ab🙂", min_size=1, max_size=20))
def test_sentencepiece_tokens_stream_to_what_the_library_decodes(text: str) -> None:
    """Words, spaces and fallback bytes come out as the library has them."""
    vocabulary = MADE["sentencepiece_tokenizer"].get_vocab()
    tokens = []
    for character in "▁" + text.replace(" ", "▁"):
        fallback = [vocabulary[f"<0x{byte:02X}>"] for byte in character.encode()]
        tokens += [vocabulary[character]] if character in vocabulary else fallback
    deltas, rest = streamed("sentencepiece_tokenizer", tokens)
    decoded = MADE["sentencepiece_tokenizer"].backend_tokenizer.decode(tokens)
    assert "".join(deltas) + rest == decoded == text


def test_control_tokens_have_no_text_and_added_words_have() -> None:
    """``<think>`` is text of the model; ``<|im_end|>`` is a signal."""
    tokenizer = MADE["merged_tokenizer"]
    tokens = [tokenizer.convert_tokens_to_ids(each) for each in ("<think>", "思考", "<|im_end|>")]
    assert streamed("merged_tokenizer", tokens) == (["<think>", "思考", ""], "")


def test_an_unknown_decoder_is_refused_by_name() -> None:
    """Guessing at the text of tokens is worse than not serving."""
    backend = Backend(models.WordLevel({"a": 0}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(BaseInvalid, match="WordPiece"):
        byte_pieces(PreTrainedTokenizerFast(tokenizer_object=backend))


@pytest.mark.parametrize(
    ("configured", "expected"), [(7, {7, 258}), ([7, 8], {7, 8, 258}), (None, {258})]
)
def test_end_tokens_are_the_configured_and_the_tokenizers(
    configured: object, expected: set[int], base: Base, tmp_path: Path
) -> None:
    """One number, a list or nothing in generation_config.json; the tokenizer's eos always."""
    path = tmp_path / "base"
    shutil.copytree(base.path, path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    assert Tokenizer(read_base(path, "ends")).end_tokens == expected


def test_a_base_without_generation_config_ends_at_the_tokenizers_eos(
    base: Base, tmp_path: Path
) -> None:
    """The file is optional."""
    path = tmp_path / "base"
    shutil.copytree(base.path, path)
    (path / "generation_config.json").unlink()
    assert Tokenizer(read_base(path, "ends")).end_tokens == {258}


def test_a_continuation_keeps_the_space_that_a_reply_drops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SentencePiece puts one before every text; in the middle of one it is real."""
    made = MADE["sentencepiece_tokenizer"]
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: made)
    monkeypatch.setattr("server.engine.tokenizer._end_tokens", lambda *_: ())
    tokenizer = Tokenizer(SimpleNamespace(path=tmp_path))  # type: ignore[arg-type]
    vocabulary = made.get_vocab()
    tokens = [vocabulary["▁the"], vocabulary["▁你"]]
    for continues, expected in ((False, "the 你"), (True, " the 你")):
        reply = tokenizer.reply(continues_text=continues)
        assert "".join(map(reply.feed, tokens)) + reply.finish() == expected
    assert tokenizer.decode(tokens) == "the 你"


def marked(tmp_path: Path) -> Tokenizer:
    path = tiny_base(tmp_path / "marked", tokenizer=byte_tokenizer(MARKS))
    return Tokenizer(read_base(path, "marked"))


def test_marks_stay_text_unless_they_are_to_be_read(tmp_path: Path) -> None:
    """As the special control tokens do, which Qwen's marks are not to its tokenizer."""
    tokenizer = marked(tmp_path)
    text = "a<think>b<|im_end|>"

    spelled, parsed = tokenizer.encode(text), tokenizer.encode(text, parse_special=True)

    assert max(spelled) < 256
    assert len([token for token in parsed if token >= 256]) == 2
    assert tokenizer.decode(spelled) == tokenizer.decode(parsed) == text


def test_marks_of_thoughts_and_calls_are_seen_though_they_be_special() -> None:
    """A reply's reader looks for them; other control tokens have no text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<think>", "<|other|>"]})
    pieces, _ = byte_pieces(tokenizer)
    mark, other = tokenizer.convert_tokens_to_ids(["<think>", "<|other|>"])

    assert (pieces[mark], pieces[other]) == (b"<think>", b"")


@pytest.mark.parametrize(
    ("template", "ending", "messages"),
    [
        ("{{ messages[0].content | upper }}", "continued", [{"role": "user", "content": "secret"}]),
        (None, "reply", [{"role": "user", "content": {"a": None}}]),
    ],
)
def test_what_cannot_be_rendered_is_refused_without_its_text(
    tmp_path: Path, template: str | None, ending: Any, messages: list[Any]
) -> None:
    """The prompt may hold what the client must not see: the model's own system prompt."""
    tokenizer = marked(tmp_path)
    if template is not None:
        tokenizer._tokenizer.chat_template = template
    deep: Any = "x"
    for _ in range(3000):
        deep = {"a": deep}
    tools = [] if template is not None else [{"type": "function", "function": deep}]

    with pytest.raises(PromptInvalid) as caught:
        tokenizer.prompt(messages, ending=ending, tools=tools)

    assert "secret" not in str(caught.value).lower()
