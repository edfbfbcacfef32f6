"""The composition root: routes, engine, errors and the gate, put together for one server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide

from adapters.base import find_base
from server.access import hide_from_strangers, require_access
from server.document import document
from server.doorkeeper import Doorkeeper
from server.engine.types import Engine
from server.errors import handle_error
from server.gate import Gate
from server.metrics import MeteredEngine, Metrics
from server.options import list_all_methods
from server.registrar import Registrar
from server.responses.store import ResponseStore
from server.routes.chat import create_chat_completion
from server.routes.console import console_file
from server.routes.docs import docs_file, docs_page
from server.routes.health import health, ready
from server.routes.lora import load_lora_adapter, unload_lora_adapter
from server.routes.metrics import metrics, version_of_server
from server.routes.models import list_models, retrieve_model
from server.routes.responses import (
    create_response,
    delete_response,
    list_input_items,
    retrieve_response,
)
from server.routes.schema import openapi_document
from server.routes.session import close_session, open_session, own_session
from server.routes.text import create_completion
from server.routes.tokens import detokenize, tokenize
from server.security import HostPolicy
from server.settings import ServerSettings
from server.sse import leave_shutdown_to_us


def create_app(
    settings: ServerSettings, *, engine: Engine | None = None, token: str = ""
) -> Litestar:
    """The ASGI application. Without an ``engine``, one is made when the application starts.

    The engine is started with the application, unless it already runs, and closed with it.
    ``token`` opens everything, as an admin key does, for as long as the application runs.
    """
    leave_shutdown_to_us()
    app = Litestar(
        _routes(),
        lifespan=[_running(lambda: engine or local_engine(settings))],
        guards=[require_access],
        before_send=[list_all_methods],
        exception_handlers={Exception: _answer},
        request_max_body_size=settings.max_body_bytes,
        dependencies=_dependencies(),
        state=State(
            {
                "settings": settings,
                "responses": _store(settings),
                "metrics": Metrics(),
                "document": cache(describe),
                "doorkeeper": Doorkeeper(settings, token=token),
            }
        ),
        openapi_config=None,
        logging_config=None,
    )
    # Middleware of Litestar's own kind would not see what the router refuses by itself.
    app.asgi_handler = Gate(app.asgi_handler, HostPolicy(settings))
    return app


def describe() -> bytes:
    """The OpenAPI document of what :func:`create_app` makes. Needs no engine and no settings."""
    return document(_routes(), dependencies=_dependencies())


def local_engine(settings: ServerSettings) -> Engine:
    """The engine that runs in this process, not yet started.

    Raises:
        BaseNotFound, BaseInvalid: the base of ``settings`` is not usable.
    """
    base = find_base(settings.base, settings.home)
    from server.engine.config import EngineConfig
    from server.engine.engine import LocalEngine

    limits = {
        name: getattr(settings, name)
        for name in ("max_running", "max_waiting", "max_context", "kv_cache_tokens")
        if getattr(settings, name) is not None
    }
    return LocalEngine(
        EngineConfig(
            base=base,
            registry_root=settings.home.registry,
            weights=settings.weights,
            device=settings.device,
            kernels=settings.kernels,
            prefix_cache=settings.prefix_cache,
            speculative_tokens=settings.speculative_tokens,
            **limits,
        )
    )


def _store(settings: ServerSettings) -> ResponseStore:
    return ResponseStore(settings.max_stored_responses, settings.max_stored_bytes)


def _routes() -> list[Any]:
    generating = [create_chat_completion, create_completion]
    responses = [create_response, retrieve_response, delete_response, list_input_items]
    models = [list_models, retrieve_model, load_lora_adapter, unload_lora_adapter]
    v1 = Router("/v1", route_handlers=[*generating, *responses, *models])
    about = [health, ready, metrics, version_of_server, openapi_document, docs_page, docs_file]
    signing = [open_session, own_session, close_session]
    return [v1, tokenize, detokenize, *about, *signing, console_file]


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return handle_error(request, hide_from_strangers(request, error))


def _dependencies() -> dict[str, Provide]:
    return {
        "engine": Provide(_engine, sync_to_thread=False),
        "settings": Provide(_settings, sync_to_thread=False),
        "responses": Provide(_responses, sync_to_thread=False),
        "metrics": Provide(_metrics, sync_to_thread=False),
        "registrar": Provide(_registrar, sync_to_thread=False),
        "doorkeeper": Provide(_doorkeeper, sync_to_thread=False),
        "document": Provide(_document, sync_to_thread=True),  # the first call takes a while
    }


def _running(make: Callable[[], Engine]) -> Callable[[Litestar], Any]:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        engine = MeteredEngine(make(), app.state.metrics)
        app.state.engine = engine
        app.state.registrar = Registrar(app.state.settings, engine)
        try:
            if not engine.is_ready:
                await engine.start()
            yield
        finally:
            await engine.close()

    return lifespan


def _engine(state: State) -> Engine:
    return state.engine


def _settings(state: State) -> ServerSettings:
    return state.settings


def _responses(state: State) -> ResponseStore:
    return state.responses


def _metrics(state: State) -> Metrics:
    return state.metrics


def _registrar(state: State) -> Registrar:
    return state.registrar


def _doorkeeper(state: State) -> Doorkeeper:
    return state.doorkeeper


def _document(state: State) -> bytes:
    return state.document()
