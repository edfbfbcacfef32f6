"""Several processes that train together, over torch's collectives: nccl on GPUs, else gloo."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

import torch
from torch import distributed

from training.errors import DeviceMissing
from training.execution.group import Group, Kind, Order

_KINDS: tuple[Kind, ...] = get_args(Kind)
# The first may be busy with a save to a slow disk, or with encoding millions of dialogues.
PATIENCE = timedelta(hours=12)


class Processes(Group):
    """The processes of a launcher that has set ``RANK``, ``WORLD_SIZE`` and the like (torchrun).

    On GPUs process ``local_rank`` of ``local_size`` on this machine takes the GPU of that number.

    Raises:
        DeviceMissing: there are fewer GPUs than processes on this machine.
    """

    def __init__(self, local_rank: int, local_size: int) -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            if torch.cuda.device_count() < local_size:
                raise DeviceMissing(local_size, torch.cuda.device_count())
            torch.cuda.set_device(local_rank)
        self._device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
        # orders lie in the host's memory, which nccl cannot send
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
        self.local_size = local_size
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def close(self) -> None:
        """Leave the group, when all have come to the end."""
        distributed.destroy_process_group()

    def announce(self, order: Order) -> None:
        distributed.broadcast(
            torch.tensor([_KINDS.index(order.kind), order.step, order.scale], dtype=torch.float64),
            src=0,
        )

    def receive(self) -> Order:
        said = torch.empty(3, dtype=torch.float64)
        distributed.broadcast(said, src=0)
        kind, step, scale = said.tolist()
        return Order(_KINDS[int(kind)], int(step), scale)

    def add_up(self, parameters: Sequence[torch.nn.Parameter], nll: float) -> float:
        flat = torch.cat([_gradient(each).flatten().float() for each in parameters])
        distributed.reduce(flat, dst=0)
        if self.is_first:
            pieces = flat.split([each.numel() for each in parameters])
            for each, piece in zip(parameters, pieces, strict=True):
                each.grad = piece.view_as(each).to(each.dtype)
        return self.total(nll)[0]

    def spread(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        flat = torch.cat([each.detach().flatten().float() for each in parameters])
        distributed.broadcast(flat, src=0)
        if self.is_first:
            return
        pieces = flat.split([each.numel() for each in parameters])
        with torch.no_grad():
            for each, piece in zip(parameters, pieces, strict=True):
                each.copy_(piece.view_as(each))

    def total(self, *values: float) -> list[float]:
        summed = torch.tensor(values, dtype=torch.float64, device=self._device)
        distributed.reduce(summed, dst=0)
        return summed.tolist()


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """A process without a dialogue in this step has none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
