"""The pocket base converses: what it learnt holds for phrasings that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from adapters.prompt import render_prompt, render_reply
from tests.demo import Demo
from training.pocket.corpus import read_sample

pytestmark = pytest.mark.timeout(700)
SHIFT = 9  # intents of a theme: the reply of the same intent number in the next theme
PER_INTENT = 8


@dataclass(frozen=True)
class Pocket:
    """The base that the demo built, in fp32."""

    model: PreTrainedModel
    tokenizer: object

    def prompt(self, text: str) -> list[int]:
        """The prompt of one user line."""
        return render_prompt(self.tokenizer, [{"role": "user", "content": text}])  # type: ignore[arg-type]

    def nll(self, text: str, reply: str) -> float:
        """Nats per token of ``reply`` as the answer to ``text``."""
        prompt, target = self.prompt(text), render_reply(self.tokenizer, reply)  # type: ignore[arg-type]
        ids = torch.tensor([prompt + target])
        labels = torch.tensor([[-100] * len(prompt) + target])
        with torch.no_grad():
            return self.model(ids, labels=labels).loss.item()

    def answer(self, text: str) -> str:
        """The greedy answer to ``text``."""
        prompt = torch.tensor([self.prompt(text)])
        out = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=30,
            do_sample=False,
            temperature=None,
            top_p=None,
        )
        return self.tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def pocket(demo: Demo) -> Pocket:
    """Loaded as any checkpoint."""
    path = demo.home.bases / "pocket"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return Pocket(model, AutoTokenizer.from_pretrained(path))


def test_held_out_replies_are_far_likelier_than_unrelated_ones(pocket: Pocket) -> None:
    """On phrasings that it never saw, the right reply costs well under half of what the reply to
    another theme's line costs (the control), and is the likelier of the two nearly always.
    """
    held_out = read_sample("everyday")["test"]
    right = [pocket.nll(text, reply) for text, reply in held_out]
    control = [
        pocket.nll(text, held_out[(index + SHIFT) % len(held_out)][1])
        for index, (text, _) in enumerate(held_out)
    ]

    assert sum(right) < 0.5 * sum(control)
    wins = sum(one < other for one, other in zip(right, control, strict=True))
    assert wins >= 0.85 * len(held_out)


def test_most_held_out_phrasings_get_an_answer_to_their_intent(pocket: Pocket) -> None:
    """The greedy answer is closest to the replies written for that very one of 81 intents, for
    at least 60 % of the unseen phrasings (chance: 1.2 %).
    """
    sample = read_sample("everyday")
    replies = [
        [
            line
            for dialogue in sample["train"][start : start + PER_INTENT]
            for line in dialogue[(len(dialogue) + 1) % 2 :: 2]
        ]
        for start in range(0, len(sample["train"]), PER_INTENT)
    ]
    held_out = sample["valid"] + sample["test"]

    right = 0
    for index, (text, _) in enumerate(held_out):
        answer = pocket.answer(text)
        scores = [max(likeness(answer, one) for one in intent) for intent in replies]
        right += scores[index % len(replies)] == max(scores) > 0

    assert len(replies) == 81
    assert right >= 0.6 * len(held_out)


def likeness(one: str, other: str) -> float:
    """The share of character pairs that two replies have in common (Dice)."""
    a, b = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (one, other))
    return 2 * len(a & b) / max(1, len(a) + len(b))
