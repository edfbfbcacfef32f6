"""What the server does not do yet; the tests of it begin by themselves as soon as it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.wire.chat import ChatRequest

_PATHS = json.loads(
    (Path(__file__).parents[1] / "openapi" / "openapi.json").read_text(encoding="utf-8")
)["paths"]

needs_tools = pytest.mark.skipif(
    "tools" not in ChatRequest.__struct_fields__, reason="the server has no tools yet"
)
needs_responses = pytest.mark.skipif(
    "/v1/responses" not in _PATHS, reason="the server has no /v1/responses yet"
)
