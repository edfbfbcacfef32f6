"""The base's tokenizer: prompts in, and the bytes behind every token for the way out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters.base import Base
from adapters.conversation import Ending
from adapters.errors import BaseInvalid
from adapters.generation_config import read_generation_config
from adapters.prompt import SIGN_BYTES, control_tokens, render_prompt, render_text
from server.engine.dialect import MARKS, dialect_of
from server.engine.errors import PromptInvalid, PromptTooLong
from server.engine.guidance import Guidance
from server.engine.text import Detokenizer, Reply
from server.engine.types import Piece, Thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# SentencePiece's sign for a space.
_SPACE = "▁"
_CANNOT_BE_SHOWN = (
    "The base's chat template changes the last message so that it cannot be continued, or a text "
    "names a control token that cannot be written in any other way."
)


class Tokenizer:
    """Text and tokens of one base. ``end_tokens`` end a reply.

    Raises:
        BaseInvalid: its tokens are not pieces of bytes in a way known here, naming the decoder.
    """

    def __init__(self, base: Base) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True)
        self._pieces, self._strips_space = byte_pieces(self._tokenizer)
        added = self._tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self._control = {
            index: token.content
            for index, token in added.items()
            if token.special and token.content not in MARKS
        }
        # The library can spell the special ones itself.
        self._marks = control_tokens(one for one in added.values() if not one.special)
        self._longest = _longest_piece(self._tokenizer, self._pieces)
        self.end_tokens = frozenset(_end_tokens(base, self._tokenizer))
        self.dialect = dialect_of(self._tokenizer)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinks: bool = False,
        ending: Ending = "reply",
        most_tokens: int | None = None,
    ) -> tuple[int, ...]:
        """The tokens of a conversation, as of :func:`adapters.prompt.render_prompt`.

        Not safe in two threads at once. What must have more than ``most_tokens`` is not made
        tokens, but it may have more.

        Raises:
            PromptTooLong: its bytes do not go into ``most_tokens``.
            PromptInvalid: the base's chat template refuses these messages.
        """
        from jinja2 import TemplateError

        try:
            ids = render_prompt(
                self._tokenizer,
                messages,
                tools=tools,
                thinks=thinks,
                ending=ending,
                check=lambda text: self._refuse_longer(text, most_tokens),
            )
        except TemplateError as error:
            raise PromptInvalid(f"The chat template refuses these messages: {error}") from error
        except ValueError as error:
            if ending != "continued" and "sanitize" not in str(error):
                raise
            raise PromptInvalid(_CANNOT_BE_SHOWN) from error  # its text may hold the whole prompt
        except RecursionError as error:
            raise PromptInvalid("Functions or arguments are nested too deeply.") from error
        return tuple(ids)

    def reply(
        self,
        stops: Iterable[str] = (),
        *,
        min_tokens: int = 0,
        thought: Thought = "none",
        continues_text: bool = False,
    ) -> Reply:
        """Return an empty reply, to be fed with tokens.

        Where the base puts a space before every text, the first is dropped, unless the reply
        ``continues_text``.
        """
        strips_space = self._strips_space and not continues_text
        detokenizer = Detokenizer(self._pieces, strips_first_space=strips_space)
        return Reply(detokenizer, stops, min_tokens=min_tokens, thought=thought)

    def encode(
        self, text: str, *, parse_special: bool = False, most_tokens: int | None = None
    ) -> tuple[int, ...]:
        """The tokens of a text by itself, with those that the base puts before every text.

        Names of control tokens in it stay text unless ``parse_special``. Not safe in two threads
        at once. ``most_tokens`` as in :meth:`prompt`.

        Raises:
            PromptTooLong: its bytes do not go into ``most_tokens``.
        """
        self._refuse_longer(text, most_tokens)
        if parse_special or not self._marks.search(text):
            return tuple(self._tokenizer(text, split_special_tokens=not parse_special)["input_ids"])
        return (*self._tokenizer("")["input_ids"], *render_text(self._tokenizer, text))

    def _refuse_longer(self, text: str, most_tokens: int | None) -> None:
        """Raise :class:`PromptTooLong` where the bytes of ``text`` need more tokens."""
        if most_tokens is None or self._longest is None:
            return
        if len(text) <= most_tokens:
            return
        normalizer = self._tokenizer.backend_tokenizer.normalizer
        if normalizer is not None:  # it may shorten a text
            text = normalizer.normalize_str(text).replace(_SPACE, " ")
        least = -(-len(text.encode(errors="replace")) // self._longest)
        if least > most_tokens:
            raise PromptTooLong(least, None, most_tokens, is_least=True)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of any tokens, control tokens by name."""
        pieces = [self.piece(token) for token in tokens]
        first = next((at for at, piece in enumerate(pieces) if piece.text), None)
        names = [piece.name for piece in pieces]
        if first is not None and self._strips_space:
            names[first] = names[first].removeprefix(b" ")
        return b"".join(names).decode(errors="replace")

    def guidance(self, vocabulary: int) -> Guidance:
        """What makes grammars for this tokenizer and a base of so many logits."""
        return Guidance(self._tokenizer, vocabulary)

    def piece(self, token: int) -> Piece:
        """What a token reads as; nothing for an id that no token has."""
        if token in self._control:
            return Piece(self._control[token].encode(), b"")
        text = self._pieces[token] if token < len(self._pieces) else b""
        return Piece(text, text)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of a whole reply."""
        reply = self.reply()
        return "".join([*map(reply.feed, tokens), reply.finish()])


def byte_pieces(tokenizer: PreTrainedTokenizerBase) -> tuple[list[bytes], bool]:
    """The bytes of every token, none for control tokens; and whether a first space is dropped.

    Marks of thoughts and calls are text, special or not: whoever reads a reply looks for them.

    Raises:
        BaseInvalid: the decoder is neither byte-level BPE nor SentencePiece with byte fallback.
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    backend = tokenizer.backend_tokenizer
    decoder = json.loads(backend.to_str())["decoder"] or {"type": "none"}
    steps = decoder.get("decoders", [decoder])
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        convert = _byte_level(bytes_to_unicode())
    elif kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and steps[0]["pattern"] == {
        "String": _SPACE
    }:
        convert = _sentencepiece_piece
    else:
        raise BaseInvalid(
            f"the tokenizer's decoder {'+'.join(kinds)} is not supported; "
            "supported are ByteLevel and Replace+ByteFallback+Fuse."
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        pieces[index] = convert(token)
    for index, added in backend.get_added_tokens_decoder().items():
        if added.special and added.content not in MARKS:
            pieces[index] = b""
    return pieces, "Strip" in kinds


def _longest_piece(tokenizer: PreTrainedTokenizerBase, pieces: list[bytes]) -> int | None:
    """How many bytes of a prompt a token stands for at most; ``None``: any number."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip for token in added):  # these swallow all space beside them
        return None
    names = (len(token.content.encode()) + SIGN_BYTES for token in added)
    return max(itertools.chain(map(len, pieces), names))


def _byte_level(stand_ins: Mapping[int, str]) -> Callable[[str], bytes]:
    """How to read tokens in GPT-2's alphabet, where each byte has a printable stand-in."""
    bytes_of = {character: byte for byte, character in stand_ins.items()}

    def piece(token: str) -> bytes:
        try:
            return bytes(bytes_of[character] for character in token)
        except KeyError:  # an added token in other letters is as it reads
            return token.encode()

    return piece


def _sentencepiece_piece(token: str) -> bytes:
    if len(token) == len("<0x00>") and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace(_SPACE, " ").encode()


def _end_tokens(base: Base, tokenizer: PreTrainedTokenizerBase) -> Iterable[int]:
    """What ends a reply: eos_token_id in generation_config.json, and the tokenizer's own."""
    configured = read_generation_config(base.path).get("eos_token_id")
    ends = configured if isinstance(configured, list) else [configured]
    yield from (token for token in [*ends, tokenizer.eos_token_id] if isinstance(token, int))
