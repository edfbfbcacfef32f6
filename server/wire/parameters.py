"""Parameters that every generating endpoint takes, with their bounds."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

ModelName = Annotated[
    str, Meta(min_length=1, max_length=256, description="The base or an adapter, by name.")
]
Temperature = Annotated[float, Meta(ge=0, le=2, description="0 always takes the likeliest token.")]
TopP = Annotated[float, Meta(gt=0, le=1, description="Keep the likeliest tokens up to this mass.")]
TopK = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="Keep this many tokens; 0 and -1 keep all.")
]
MinP = Annotated[
    float, Meta(ge=0, le=1, description="Drop tokens below this share of the likeliest one's.")
]
Penalty = Annotated[
    float, Meta(ge=-2, le=2, description="Above 0, what the reply already has gets less likely.")
]
RepetitionPenalty = Annotated[
    float, Meta(ge=0.1, le=10, description="Above 1, tokens already seen become less likely.")
]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
    Meta(
        max_length=1024,
        description="Token ids, and what is added to their logits.",
        extra_json_schema={"propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$"}},
    ),
]
MaxTokens = Annotated[int, Meta(ge=1, le=2**31 - 1, description="At most this many new tokens.")]
MaxTextTokens = Annotated[
    int,
    Meta(ge=0, le=2**31 - 1, description="At most this many new tokens; 0 makes none."),
]
MinTokens = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="Nothing ends the reply before it has this many.")
]
Seed = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, description="The same seed gives the same reply.")
]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]
StopStrings = Annotated[list[StopString], Meta(max_length=4)]
StopTokenIds = Annotated[
    list[TokenId], Meta(max_length=64, description="These tokens end the reply, too.")
]
Choices = Annotated[int, Meta(ge=1, le=128, description="How many replies to make.")]
TopLogprobs = Annotated[
    int, Meta(ge=0, le=20, description="So many of the likeliest tokens in each place.")
]
Priority = Annotated[
    int, Meta(ge=-8, le=8, description="Who waits goes first by this: the lower, the earlier.")
]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class Inbound(Struct, frozen=True, kw_only=True):
    """A part of a request. Unknown fields are ignored (the top level reports them in a header)."""


class CommonParameters(Inbound, frozen=True, kw_only=True):
    """Which model, how to choose its tokens, when to stop, and how to answer.

    What is left out falls back to the model's own defaults (see ``GET /v1/models``), then to the
    neutral values. ``priority`` (0) is vLLM's: a request of a lower one goes before those of higher
    ones that came a little earlier, so that none waits for ever.
    """

    model: ModelName
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    min_tokens: MinTokens | None = None
    seed: Seed | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: StopTokenIds | None = None
    ignore_eos: bool | None = None
    priority: Priority | None = None
    stream: bool | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None


class StreamOptions(Inbound, frozen=True, kw_only=True):
    """``include_usage`` adds a last chunk with the token counts."""

    include_usage: bool = False


JsonText = Annotated[str, Meta(min_length=1, description="A JSON schema as text.")]
Texts = Annotated[list[str], Meta(min_length=1, description="The reply is one of these.")]
Regex = Annotated[str, Meta(min_length=1, description="All of the reply matches it.")]
GrammarText = Annotated[
    str, Meta(min_length=1, description="Lark, from `start`, or GBNF, from `root`.")
]


class StructuredOutputs(Inbound, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What replies are held to, as vLLM has it: exactly one of the first five.

    ``disable_fallback`` and ``disable_any_whitespace`` change nothing: there is one backend, and
    JSON never has free white space.
    """

    json: dict[str, Any] | JsonText | None = None
    json_object: bool | None = None
    choice: Texts | None = None
    regex: Regex | None = None
    grammar: GrammarText | None = None
    disable_fallback: bool | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: None = None
    structural_tag: None = None


class Parameters(CommonParameters, frozen=True, kw_only=True):
    """The same for endpoints that make choices. ``user``, ``metadata`` and ``store`` do nothing.

    ``guided_json`` and its like are older names for what ``structured_outputs`` says.
    """

    max_tokens: MaxTokens | None = None
    n: Choices | None = None
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | JsonText | None = None
    guided_choice: Texts | None = None
    guided_regex: Regex | None = None
    guided_grammar: GrammarText | None = None

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage
