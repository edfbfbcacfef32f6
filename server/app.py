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
from adapters.structs import prepare_structs
from server.access.doorkeeper import Doorkeeper
from server.access.origins import HostPolicy
from server.access.scopes import hide_from_strangers, require_access
from server.console.adapter_cards import AdapterCards
from server.console.adapter_jobs import AdapterJobs
from server.console.changes import Changes
from server.console.feed import Sources
from server.console.jobs import Jobs
from server.console.logbook import Logbook
from server.console.run_records import RunRecords
from server.console.sweeps import Sweeps
from server.console.trainings import Trainings
from server.console.uploads import Uploads
from server.engine.types import Engine
from server.errors import handle_error
from server.http.gate import Gate
from server.http.options import list_all_methods
from server.http.query import require_known_query
from server.http.sse import leave_shutdown_to_us
from server.monitoring.metered import MeteredEngine
from server.monitoring.metrics import Metrics
from server.openapi.document import document
from server.registrar import Registrar
from server.responses.store import ResponseStore
from server.routes.adapters import (
    all_adapters,
    download_adapter,
    evaluate_adapters,
    merge_adapter,
    register_adapter,
    remove_adapter,
    rename_adapter,
)
from server.routes.chat import create_chat_completion
from server.routes.console import console_file
from server.routes.datasets import (
    all_datasets,
    begin_upload,
    continue_upload,
    prepare_dataset,
    preview_dataset,
    retrieve_dataset,
)
from server.routes.docs import docs_file, docs_page
from server.routes.events import admin_events
from server.routes.health import health, ready
from server.routes.jobs import cancel_job, list_jobs, retrieve_job
from server.routes.logs import list_log_lines
from server.routes.lora import load_lora_adapter, unload_lora_adapter
from server.routes.metrics import metrics, version_of_server
from server.routes.models import list_models, retrieve_model
from server.routes.recipes import list_recipes, plan_run
from server.routes.responses import (
    create_response,
    delete_response,
    list_input_items,
    retrieve_response,
)
from server.routes.runs import (
    list_runs,
    resume_run,
    retrieve_run,
    run_log,
    run_metrics,
    start_run,
    stop_run,
)
from server.routes.schema import openapi_document
from server.routes.session import close_session, open_session, own_session
from server.routes.sweeps import (
    list_sweeps,
    plan_sweep,
    resume_sweep,
    retrieve_sweep,
    start_sweep,
    stop_sweep,
)
from server.routes.text import create_completion
from server.routes.tokens import detokenize, tokenize
from server.settings import ServerSettings

# What handlers are given, by its name in the application's state.
_KEPT = (
    *("engine", "settings", "responses", "metrics", "registrar", "doorkeeper"),
    *("records", "jobs", "trainings", "sweeps", "uploads", "sources"),
    *("adapter_cards", "adapter_jobs"),
)


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
        guards=[require_access, require_known_query],
        before_send=[list_all_methods],
        exception_handlers={Exception: _answer},
        request_max_body_size=settings.max_body_bytes,
        dependencies=_dependencies(),
        state=state_of(settings, token=token),
        openapi_config=None,
        logging_config=None,
    )
    # Middleware of Litestar's own kind would not see what the router refuses by itself.
    app.asgi_handler = Gate(app.asgi_handler, HostPolicy(settings))
    return app


def state_of(settings: ServerSettings, *, token: str = "") -> State:
    """What an application keeps while it is there: all of it, but for the engine."""
    return State(
        {
            "settings": settings,
            "responses": ResponseStore(settings.max_stored_responses, settings.max_stored_bytes),
            "metrics": Metrics(),
            "document": describe,
            "doorkeeper": Doorkeeper(settings, token=token),
            **_workshop(settings),
        }
    )


@cache
def describe() -> bytes:
    """The OpenAPI document of what :func:`create_app` makes. Needs no engine and no settings.

    Made when it is first asked for: that takes a while.
    """
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


def _workshop(settings: ServerSettings) -> dict[str, Any]:
    """What the console works with beside the engine."""
    home = settings.home
    records, jobs, uploads = RunRecords(home.runs), Jobs(home), Uploads(home.uploads)
    return {
        "records": records,
        "jobs": jobs,
        "trainings": Trainings(home, settings.base, records, jobs),
        "adapter_cards": AdapterCards(home),
        "adapter_jobs": AdapterJobs(home, settings.base, jobs),
        "sweeps": Sweeps(home, settings.base, jobs, uploads),
        "uploads": uploads,
        "sources": Sources(records, jobs, Logbook(), Changes(home)),
    }


def _routes() -> list[Any]:
    generating = [create_chat_completion, create_completion]
    responses = [create_response, retrieve_response, delete_response, list_input_items]
    models = [list_models, retrieve_model, load_lora_adapter, unload_lora_adapter]
    v1 = Router("/v1", route_handlers=[*generating, *responses, *models])
    about = [health, ready, metrics, version_of_server, openapi_document, docs_page, docs_file]
    signing = [open_session, own_session, close_session]
    return [v1, tokenize, detokenize, *about, *signing, *_admin_routes(), console_file]


def _admin_routes() -> list[Any]:
    runs = [list_runs, retrieve_run, run_metrics, run_log, start_run, stop_run, resume_run]
    sweeps = [list_sweeps, retrieve_sweep, plan_sweep, start_sweep, stop_sweep, resume_sweep]
    datasets = [all_datasets, retrieve_dataset, preview_dataset, prepare_dataset]
    files = [begin_upload, continue_upload]
    adapters = [all_adapters, register_adapter, rename_adapter, remove_adapter, download_adapter]
    jobs = [merge_adapter, evaluate_adapters, list_jobs, retrieve_job, cancel_job]
    others = [list_recipes, plan_run, list_log_lines, admin_events]
    return [*runs, *sweeps, *datasets, *files, *adapters, *jobs, *others]


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return handle_error(request, hide_from_strangers(request, error))


def _dependencies() -> dict[str, Provide]:
    """What :mod:`server.routes.provided` names, out of the application's state."""
    return {
        **{name: Provide(_kept(name), sync_to_thread=False) for name in _KEPT},
        "document": Provide(_document, sync_to_thread=True),  # the first call takes a while
    }


def _kept(name: str) -> Callable[[State], Any]:
    def kept(state: State) -> Any:
        return state[name]

    return kept


def _document(state: State) -> bytes:
    return state.document()


def _running(make: Callable[[], Engine]) -> Callable[[Litestar], Any]:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        engine = MeteredEngine(make(), app.state.metrics)
        app.state.engine = engine
        app.state.registrar = Registrar(app.state.settings, engine)
        with app.state.sources.logbook.opened():
            try:
                if not engine.is_ready:
                    await engine.start()
                prepare_structs()  # before routes read records in several threads
                yield
            finally:
                await engine.close()

    return lifespan
