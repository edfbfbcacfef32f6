"""Tokens as llguidance knows them: no text has a control token in it, and nothing else changes."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from server.engine.guided_tokens import guided_tokens
from tests.server.engine.test_tokenizer import MADE, PIECES
from tests.tiny import MARKS, byte_tokenizer


@pytest.mark.parametrize("name", MADE)
def test_texts_have_no_control_tokens_and_tokens_their_bytes(name: str) -> None:
    """As they are spelled; words that were added to the vocabulary stay words."""
    tokenizer, (pieces, _) = MADE[name], PIECES[name]
    controls = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    guided = guided_tokens(tokenizer, len(tokenizer) + 7)

    text = "a<|im_end|></s>思考"
    assert not controls & set(guided.tokenize_str(text))
    assert guided.decode_str(guided.tokenize_str(text)) == text
    assert guided.vocab_size == len(tokenizer) + 7
    assert guided.eos_token == tokenizer.eos_token_id
    for id_, piece in enumerate(pieces):
        if not guided.is_special_token(id_) and piece != b"\xff":  # its sign for special tokens
            assert guided.decode_bytes([id_]) == piece
    special = {id_ for id_ in tokenizer.added_tokens_decoder if guided.is_special_token(id_)}
    assert special >= controls
    assert {str(tokenizer.added_tokens_decoder[id_]) for id_ in special - controls} <= {"<think>"}


def test_marks_are_no_text() -> None:
    """Though Qwen's tokenizer counts them among the ordinary ones."""
    tokenizer = byte_tokenizer(MARKS)
    guided = guided_tokens(tokenizer, len(tokenizer))
    ids = tokenizer.convert_tokens_to_ids(list(MARKS))

    assert all(guided.is_special_token(id_) for id_ in ids)
    assert not set(ids) & set(guided.tokenize_str("".join(MARKS)))


def test_a_model_that_lists_scores_keeps_its_order() -> None:
    """And its token for what it does not know."""
    vocabulary = [("<unk>", 0.0), ("a", -1.0), ("</s>", 0.0), ("b", -2.0)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    guided = guided_tokens(tokenizer, len(tokenizer))

    assert [guided.decode_bytes([id_]) for id_ in (1, 3)] == [b"a", b"b"]
    assert guided.eos_token == 2
