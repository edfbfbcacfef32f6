"""What tests of several packages share. Heavy imports stay inside the fixtures."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.environment import prepare_environment, usable_cpus

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the processors
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // int(workers))))
prepare_environment(os.environ)  # before any test imports torch
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: inherited by
    signal.signal(signal.SIGINT, signal.default_int_handler)  # all that tests start and interrupt
# Else each of the hundred processes that tests start would compile all of our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if find_library("cuda") is None:  # no driver: Triton, if it is there, shall run kernels on the CPU
    os.environ["TRITON_INTERPRET"] = "1"
gc.disable()  # until all is loaded: none of it is garbage, and there is more at every look

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient
    from xdist.scheduler import LoadScopeScheduling

    from server.process import Serving
    from server.settings import ServerSettings
    from tests.demo import Demo
    from tests.fakes import Script, ScriptedEngine

# What tests of these folders share takes long to make: the one real demo, and the one browser.
SHARED = {"tests/e2e/": "demo", "tests/clients/": "demo", "tests/browser/": "browser"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest in one piece, so that no process waits for it at the end.

    Of several tests with one id, xdist would run one and say nothing.
    """
    ids = Counter(item.nodeid for item in items)
    if twice := [id_ for id_, count in ids.items() if count > 1]:
        raise pytest.UsageError(f"several tests are called {', '.join(twice)}")
    items.sort(key=lambda item: shared_by(item.nodeid) is None)


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the half million objects that every test needs."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def shared_by(nodeid: str) -> str | None:
    """The name of what this test shares with those of whole folders."""
    return next((name for folder, name in SHARED.items() if nodeid.startswith(folder)), None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """One process runs a file, and all tests that share what takes long to make."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shared_by(nodeid) or nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how the developer's shell is set up."""
    for name in list(os.environ):
        if name.startswith("LCCC_") or name.upper() in PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test speaks TLS, yet every client of HTTP reads all authorities first, more than a
    hundred, which takes it longer than most of what it is asked for here. Now there is one.
    """
    import certifi

    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    bundle = tmp_path_factory.mktemp("tls") / "authority.pem"
    bundle.write_text(first + end, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole way once: a base and two adapters that converse. Copy the home to change it.

    Most of its time would go into the base, which is built in fewer steps than a user's.
    """
    from adapters.home import Home
    from tests.demo import made_in

    return made_in(Home(tmp_path_factory.mktemp("demo") / "home"), briefly=True)


@pytest.fixture(scope="session")
def whole_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The same as a user has it, for slow tests."""
    from adapters.home import Home
    from tests.demo import made_in

    return made_in(Home(tmp_path_factory.mktemp("demo") / "home"), briefly=False)


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """A server on any free port, at home in ``tmp_path``, that does not wait long at its end."""
    from adapters.home import Home
    from server.settings import ServerSettings

    return ServerSettings(home=Home(tmp_path / "home"), port=0, drain_timeout_s=1.0)


@pytest.fixture
def engine() -> ScriptedEngine:
    """The engine behind ``client``; give it other scripts before the first request."""
    from tests.fakes import ScriptedEngine

    return ScriptedEngine()


class Seat:
    """Stands where an application has its engine, and is whatever engine sits in it."""

    def __init__(self) -> None:
        self.engine: ScriptedEngine | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.fixture(scope="session")
def routes_once() -> Iterator[None]:
    """Have Litestar work out the routes once, not for each of some hundred servers.

    What differs from one to the next makes it work them out again; but for state and lifespan,
    which each has of its own, and for routes and dependencies: ``server.app`` makes these anew
    every time, of nothing that is given to it, so that they are always the same.
    """
    from litestar import Litestar

    made: list[tuple[dict[str, Any], Litestar]] = []

    def application(routes: list[Any], *, state: Any, lifespan: list[Any], **more: Any) -> Litestar:
        given = {name: copy(one) for name, one in more.items() if name != "dependencies"}
        app = next((app for known, app in made if known == given), None)
        if app is None:
            app = Litestar(routes, **more)
            made.append((given, app))
        app = copy(app)
        app.asgi_router = copy(app.asgi_router)
        app.asgi_router.app = app
        app.event_emitter = copy(app.event_emitter)  # it keeps what is open while its own runs
        app.asgi_handler = app._create_asgi_handler()
        app.state, app._lifespan_managers = state, [*lifespan]
        return app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.app.Litestar", application)
        yield


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> tuple[Litestar, Seat]:
    """One for all tests of a process: the routes of another would be the same, and take a while."""
    from adapters.home import Home
    from server.app import create_app
    from server.settings import ServerSettings

    seat, nowhere = Seat(), Home(tmp_path_factory.mktemp("application"))
    return create_app(ServerSettings(home=nowhere), engine=seat), seat  # type: ignore[arg-type]


@pytest.fixture
def client(
    settings: ServerSettings, engine: ScriptedEngine, application: tuple[Litestar, Seat]
) -> Iterator[TestClient[Any]]:
    """The application without a network, its engine started; what it keeps is this test's own."""
    from litestar.testing import TestClient

    from server.app import state_of

    app, seat = application
    app.state, seat.engine = state_of(settings), engine
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as started:
        yield started


@dataclass(frozen=True)
class Live:
    """A server over real connections, and the engine behind it."""

    serving: Serving
    engine: ScriptedEngine

    @property
    def url(self) -> str:
        return self.serving.api_url


LiveServer = Callable[..., AbstractContextManager[Live]]


@pytest.fixture
def live(settings: ServerSettings, routes_once: None) -> LiveServer:
    """Start servers, with scripts for the engine and changes of the settings."""
    import msgspec

    from server.background import serve_in_thread
    from tests.fakes import Script, ScriptedEngine

    @contextmanager
    def start(*scripts: Script, **changes: Any) -> Iterator[Live]:
        engine = ScriptedEngine(scripts=scripts or (Script(),))
        with serve_in_thread(msgspec.structs.replace(settings, **changes), engine) as serving:
            yield Live(serving, engine)

    return start
