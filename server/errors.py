"""Every failure as OpenAI's error object: the engine's errors, Litestar's, and our own bugs.

The one place that knows which status an error has. Bugs are logged with the request's id; their
text never reaches a client.
"""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from msgspec.structs import replace

from server.engine.errors import (
    AdapterUnavailable,
    AdapterUnreadable,
    EngineClosed,
    EngineError,
    GenerationFailed,
    GrammarInvalid,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    SamplingInvalid,
    UnknownModel,
)
from server.wire.errors import ErrorBody, ErrorEnvelope, InvalidRequest
from training.errors import (
    DataError,
    DatasetNotFound,
    RunNotFound,
    SweepError,
    SweepNotFound,
    TrainingError,
)

logger = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_RETRY_AFTER = {"retry-after": "5"}
_LONGEST_ECHO = 200


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal or failure, ready to be sent."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = {}

    @property
    def envelope(self) -> ErrorEnvelope:
        """The body."""
        return ErrorEnvelope(
            ErrorBody(message=self.message, type=self.type, param=self.param, code=self.code)
        )

    def response(self) -> Response[Any]:
        """As an answer."""
        return Response(self.envelope, status_code=self.status, headers=self.headers)


class Refused(HTTPException):
    """A refusal with everything that it is answered with."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(detail=problem.message, status_code=problem.status)


def wrong_state(message: str) -> Refused:
    """409: what is asked for cannot be done with a record as it stands."""
    return Refused(Problem(status=HTTPStatus.CONFLICT, message=message, code="wrong_state"))


def not_listed(field: str, value: str, listed: str) -> Refused:
    """400: ``field`` names something that ``GET /admin/`` ``listed`` does not have."""
    message = f"{field}: {value!r} is none of those that `GET /admin/{listed}` lists."
    problem = Problem(status=HTTPStatus.BAD_REQUEST, message=message, param=field, code="not_found")
    return Refused(problem)


class ClientGone(Exception):
    """The client closed the connection before its answer was ready; nobody will read this."""


NOT_READY = Problem(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    message="The server is not ready: it is starting, stopping, or its engine has failed.",
    type="server_error",
    code="not_ready",
    headers=_RETRY_AFTER,
)
SHUTTING_DOWN = Problem(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    message="The server is shutting down.",
    type="server_error",
    code="shutting_down",
    headers=_RETRY_AFTER,
)


# Which status each of the engine's errors has; the error's own text becomes the message.
_ENGINE_PROBLEMS: dict[type[EngineError], Problem] = {
    UnknownModel: Problem(status=404, message="", param="model", code="model_not_found"),
    PromptInvalid: Problem(status=400, message="", param="messages"),
    PromptTooLong: Problem(
        status=400, message="", param="messages", code="context_length_exceeded"
    ),
    SamplingInvalid: Problem(status=400, message=""),
    GrammarInvalid: Problem(
        status=400, message="", param="response_format", code="invalid_json_schema"
    ),
    QueueFull: Problem(status=429, message="", type="rate_limit_error", code="queue_full"),
    EngineClosed: SHUTTING_DOWN,
    GenerationFailed: Problem(
        status=500, message="", type="server_error", code="generation_failed"
    ),
    AdapterUnavailable: Problem(
        status=503,
        message="",
        type="server_error",
        param="model",
        code="adapter_unavailable",
        # It stays broken until its owner acts, so clients should not hammer on it.
        headers={"retry-after": "60", "x-should-retry": "false"},
    ),
    AdapterUnreadable: Problem(
        status=503,
        message="",
        type="server_error",
        param="model",
        code="adapter_unavailable",
        headers=_RETRY_AFTER,
    ),
}
_GONE = Problem(status=499, message="The client closed the connection.")
_BUG = Problem(status=500, message="The server failed to answer.", type="server_error")


def grammar_refusal(error: GrammarInvalid, param: str) -> InvalidRequest:
    """The refusal of a schema or form under the name that the request has for it."""
    code = "invalid_json_schema" if error.is_of_schema else "invalid_grammar"
    return InvalidRequest(f"{param}: {error}", param, code)


def problem_of(error: Exception) -> Problem:
    """What to tell the client about ``error``; the fallback for bugs reveals nothing."""
    match error:
        case InvalidRequest():
            return Problem(
                status=error.status, message=error.message, param=error.param, code=error.code
            )
        case EngineError():
            return _engine_problem(error)
        case TrainingError():
            return _training_problem(error)
        case ClientGone():
            return _GONE
        case HTTPException():
            return _http_problem(error)
        case _:
            return _BUG


def _http_problem(error: HTTPException) -> Problem:
    match error:
        case Refused():
            return error.problem
        case RequestEntityTooLarge():
            return Problem(status=413, message="The request body is too large.")
        case ValidationException(extra=[{"key": str(name), "message": str(reason)}, *_]):
            return Problem(status=400, message=f"{name}: {reason}.", param=name)
        case _ if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Problem(status=error.status_code, message=error.detail)
        case _:
            return _BUG


def _training_problem(error: TrainingError) -> Problem:
    """Of the records that the console shows; nothing else of training happens here."""
    match error:
        case RunNotFound() | DatasetNotFound() | SweepNotFound():
            return Problem(status=404, message=str(error), code="not_found")
        case DataError() | SweepError():
            return Problem(status=503, message=str(error), type="server_error", code="data_damaged")
        case _:
            return _BUG


def _engine_problem(error: EngineError) -> Problem:
    known = _ENGINE_PROBLEMS.get(type(error))
    if known is None:
        return _BUG
    if isinstance(error, SamplingInvalid):
        return replace(known, message=str(error), param=error.field)
    headers = known.headers
    if isinstance(error, QueueFull):
        headers = {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    return replace(known, message=str(error), headers=headers)


def report(error: Exception, subject: str) -> Problem:
    """Like :func:`problem_of`, and our own failures are logged under the id ``subject``."""
    problem = problem_of(error)
    if problem.status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem
    logger.error("%s failed", subject, exc_info=error)
    if problem is not _BUG:
        return problem
    return replace(problem, message=f"{problem.message} Its log has the details under {subject}.")


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar's handler for every exception, also those of its router (404, 405)."""
    problem = report(error, request.scope["state"].get("request_id", "a request"))
    if isinstance(error, NotFoundException):
        problem = replace(problem, message=f"Invalid URL ({_line(request)}).")
    elif isinstance(error, MethodNotAllowedException):
        allowed = ", ".join(allowed_methods(request.app, request.scope["path"]))
        message = f"Not allowed to {_line(request)}; allowed: {allowed}."
        problem = replace(problem, message=message, headers={"allow": allowed})
    elif isinstance(error, RequestEntityTooLarge):
        most = request.app.request_max_body_size
        message = f"The request body is too large: this server reads at most {most:,} bytes."
        problem = replace(problem, message=message)
    return problem.response()


def _line(request: Request[Any, Any, Any]) -> str:
    return f"{request.scope['method']} {request.scope['path'][:_LONGEST_ECHO]}"


def allowed_methods(app: Litestar, path: str) -> list[str]:
    """The methods that ``path`` answers to, found by asking the router for each.

    ``HEAD`` is ``GET`` to it: :mod:`server.http.gate` sees to that.
    """
    asked = {"HEAD": "GET"}
    return [method for method in _METHODS if _routes(app, path, asked.get(method, method))]


def _routes(app: Litestar, path: str, method: Any) -> bool:
    try:
        app.asgi_router.handle_routing(path=path, method=method)
    except HTTPException:
        return False
    return True
