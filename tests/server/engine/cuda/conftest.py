"""Engines with kernels for GPUs: on a GPU, or on the CPU with formulas in the kernels' place."""

from __future__ import annotations

import pytest
import torch

from server.engine.config import EngineConfig
from server.engine.cuda.model import CudaModel
from server.engine.spec import read_spec
from tests.server.engine.cuda.formulas import Formulas

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def computed_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device of engines whose steps are :class:`server.engine.cuda.steps.CudaSteps`."""
    if request.param == "cpu":

        def with_formulas(config: EngineConfig) -> CudaModel:
            return CudaModel(config, read_spec(config.base), Formulas())

        monkeypatch.setattr("server.engine.runner.load_model", with_formulas)
    return str(request.param)
