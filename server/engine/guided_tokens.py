"""A base's tokens as llguidance is to know them: control tokens apart from all text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from adapters.prompt import control_tokens

if TYPE_CHECKING:
    import llguidance
    from transformers import PreTrainedTokenizerBase

# Of a private area of Unicode (plane 15): no text has such names.
_APART = "\U000f0000"


def guided_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> llguidance.LLTokenizer:
    """The tokens of ``tokenizer``, filled up to ``vocabulary`` with some that are never allowed.

    llguidance has the tokenizer spell what a grammar leaves no choice about, and that finds control
    tokens in texts: a reply that has to say ``<|im_end|>`` would end there. So here they have other
    names, and grammars mean them by their ids.
    """
    import llguidance

    backend = tokenizer.backend_tokenizer
    state: dict[str, Any] = msgspec.json.decode(backend.to_str())
    state |= {"padding": None, "truncation": None}
    pattern = control_tokens(tokenizer.added_tokens_decoder.values())
    names = {}
    for token in state["added_tokens"]:
        if pattern.fullmatch(token["content"]):
            names[token["content"]] = f"<{_APART}{token['id']}>"
            token |= {"content": names[token["content"]], "special": True}
    _rename(state["model"], names)
    text = msgspec.json.encode(state).decode()
    return llguidance.LLTokenizer(text, n_vocab=vocabulary, eos_token=tokenizer.eos_token_id)


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """The same tokens where the model lists them itself: with ids, or with scores in order."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): id_ for token, id_ in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), *rest] for token, *rest in vocabulary]
    unknown = model.get("unk_token")
    if unknown in names:
        model["unk_token"] = names[unknown]
