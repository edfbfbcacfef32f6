"""``GET /metrics`` for Prometheus, and ``GET /version``."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST

from server.access.scopes import INFERENCE
from server.routes.provided import ProvidedMetrics
from server.wire.models import Version


@get(
    "/metrics",
    opt=INFERENCE,
    operation_id="metrics",
    summary="Figures for Prometheus",
    tags=["health"],
    media_type="text/plain",
    response_description="Prometheus' text format.",
)
async def metrics(metrics: ProvidedMetrics) -> Response[bytes]:
    """Requests, tokens and times by model; queue, KV cache and resident adapters now.

    The first 64 models that are asked for have histograms of their own, the others share those of
    the model `(others)`. What has not been served for an hour is left out.
    """
    now = metrics.text_now()
    text = await asyncio.to_thread(metrics.text) + now
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


@get(
    "/version",
    opt=INFERENCE,
    operation_id="version",
    summary="Which version serves",
    tags=["health"],
    response_description="It.",
)
async def version_of_server() -> Version:
    """The version of the package."""
    return Version(version=version("lccc-chat"))
