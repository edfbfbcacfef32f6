"""What takes adapters a while: merging them into a base, and measuring them. Through jobs."""

from __future__ import annotations

from adapters.errors import AdapterNotFound, RegistryCorrupt
from adapters.home import Home
from adapters.registry import Registry, name_problems
from server.console.datasets import dataset_names
from server.console.jobs import Job, Jobs
from server.errors import Problem, Refused, not_listed
from server.wire.adapters import EvaluationRequest, MergeRequest


class AdapterJobs:
    """Jobs over the adapters of ``home``; ``served`` is the base as the server was told it."""

    def __init__(self, home: Home, served: str, jobs: Jobs) -> None:
        self._home = home
        self._served = served
        self._registry = Registry(home.registry)
        self._jobs = jobs

    def merge(self, name: str, asked: MergeRequest) -> Job:
        """Begin `adapters merge`; the merged base comes among the others of home.

        Raises:
            Refused: 400 for a name that cannot be used, 404 where there is no such adapter, 409
                where there is a base of that name, 503 for a damaged adapter.
        """
        self._check_adapter(name)
        for problem in name_problems(asked.to, self._served):
            raise Refused(Problem(status=400, message=f"to: the {problem}.", param="to"))
        out = self._home.bases / asked.to
        if out.exists():
            message = f"to: there is a base '{asked.to}' already; choose another name."
            raise Refused(Problem(status=409, message=message, param="to", code="base_exists"))
        if asked.dataset is not None:
            self._check_dataset(asked.dataset)
        arguments = [
            *("adapters", "merge", f"--out={out}", f"--dtype={asked.dtype}"),
            *([f"--data={asked.dataset}"] if asked.dataset else []),
            *("--", name),
        ]
        return self._jobs.start("merge", f"{name} → {asked.to}", arguments, result=out)

    def evaluate(self, asked: EvaluationRequest) -> Job:
        """Begin `evaluate`, whose figures go into the adapters' manifests, and beside the base.

        Raises:
            Refused: 400, a dataset is unknown, or nothing is to be measured; 404, an adapter is
                unknown; 503 for a damaged one.
        """
        self._check_dataset(asked.dataset)
        if not asked.models and not asked.includes_base:
            message = "models: name an adapter, or set includes_base."
            raise Refused(Problem(status=400, message=message, param="models"))
        for name in asked.models:
            self._check_adapter(name)
        names = [*([self._served] if asked.includes_base else []), *dict.fromkeys(asked.models)]
        arguments = [
            *("evaluate", f"--data={asked.dataset}", f"--base={self._served}"),
            *(f"--dialogues={asked.dialogues}", f"--replies={asked.replies}"),
            f"--max-tokens={asked.max_tokens}",
            *([f"--split={asked.split}"] if asked.split else []),
            *("--", *names),
        ]
        subject = f"{', '.join(names)} · {asked.dataset}"
        return self._jobs.start("evaluate", subject, arguments)

    def _check_adapter(self, name: str) -> None:
        try:
            self._registry.get(name)
        except AdapterNotFound as error:
            problem = Problem(status=404, message=str(error), code="adapter_not_found")
            raise Refused(problem) from error
        except RegistryCorrupt as error:
            problem = Problem(status=503, message=str(error), type="server_error")
            raise Refused(problem) from error

    def _check_dataset(self, name: str) -> None:
        if name not in dataset_names(self._home.datasets):
            raise not_listed("dataset", name, "datasets")
