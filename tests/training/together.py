"""A training in several processes, forked from one that has imported torch."""

from __future__ import annotations

import multiprocessing
import os
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import bitsandbytes  # noqa: F401 - loaded once, before the forks
import peft  # noqa: F401 - the same
import torch
from transformers.models.qwen3 import modeling_qwen3  # noqa: F401 - the same

from adapters.base import read_base
from tests.training.killing import Nobody
from training.data.dataset import PreparedDataset
from training.execution.processes import Processes
from training.recipe import read_recipe
from training.runs import RunStore
from training.train import assist, plan_training, train


@dataclass(frozen=True)
class Together:
    """A training of the base in ``base`` on a dataset by ``size`` processes."""

    base: Path
    dataset: Path
    overrides: tuple[str, ...]
    runs: Path
    size: int

    def run(self) -> None:
        """Train to the end; go on with the one run there is."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        processes = [context.Process(target=self._live, args=(n, port)) for n in range(self.size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * self.size

    def _live(self, rank: int, port: int) -> None:
        torch.set_num_threads(1)
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        with closing(Processes(rank, self.size)) as group:
            plan = plan_training(
                read_base(self.base, "tiny"),
                read_recipe("qwen3-0.6b-lccc", self.overrides),
                PreparedDataset.open(self.dataset.parent, self.dataset.name),
                processes=self.size,
            )
            if not group.is_first:
                assist(plan, group)
                return
            store = RunStore(self.runs)
            begun = next(iter(store.all()), None)
            train(
                plan,
                "bot",
                runs=store,
                registry=None,
                progress=Nobody(),
                resume=begun,
                group=group,
            )
