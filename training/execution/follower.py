"""The part of the processes that are not the first: they do what it announces."""

from __future__ import annotations

from training.execution.group import Group
from training.execution.share import Share


def follow(share: Share, group: Group) -> None:
    """Compute along until the first ends; no record is kept here."""
    share.model.train()
    while (order := group.receive()).kind != "end":
        if order.kind == "validate":
            part = share.validation()
            assert part is not None, "only the first is asked to stop"
            group.total(part.nll, part.tokens, part.characters)
            continue
        if order.kind == "step":
            examples = share.plan.step_examples(order.step)
            group.add_up(share.parameters, share.backward(order.step, examples, order.scale))
            share.model.zero_grad(set_to_none=True)
        group.spread(share.parameters)
