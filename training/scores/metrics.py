"""The names of figures, for the programs and for people; it needs no torch."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """What a figure is called, and what it is."""

    title: str
    meaning: str


# In the order in which they are shown; measures.py has the definitions.
METRICS = {
    "perplexity_per_character": Metric(
        "perplexity per character",
        "exp of the nats that a character of the data's replies costs, end markers included",
    ),
    "nll_per_character": Metric("nats per character", "its logarithm"),
    "nll_per_token": Metric("nats per token", "what a token of the data's replies costs"),
    "bleu_2_characters": Metric(
        "BLEU-2 of characters, %", "corpus BLEU up to pairs of characters, one reference"
    ),
    "bleu_4_characters": Metric("BLEU-4 of characters, %", "the same up to four characters"),
    "rouge_l_characters": Metric(
        "ROUGE-L of characters, %", "F1 of the longest common subsequence, mean over replies"
    ),
    "distinct_1_characters": Metric(
        "distinct-1 of characters, %", "different characters among all in the replies"
    ),
    "distinct_2_characters": Metric("distinct-2 of characters, %", "the same for pairs"),
    "reply_characters": Metric("length of a reply", "characters, mean"),
    "repetition_4_characters": Metric(
        "repetition, %", "runs of four characters that a reply has had before, mean"
    ),
    "copied_from_training": Metric(
        "copies, %", "replies that are, word for word, replies of the training split"
    ),
    "echoed": Metric("echoes, %", "replies that say what the user said"),
    "unfinished": Metric("cut off, %", "replies that the limit of tokens ended"),
}
