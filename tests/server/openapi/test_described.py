"""Requests made from our own OpenAPI document: each is answered as it says, and none with 5xx.

First every boundary and every malformed request that the document implies, then random ones; the
same in every run. The server and its connections are real, the engine is scripted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, Response
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from adapters.base import Base, find_base
from adapters.home import Home
from server.background import serve_in_thread
from server.settings import ServerSettings
from server.wire.decode import UNSUPPORTED_IN_CHAT, UNSUPPORTED_IN_TEXT, UNSUPPORTED_IN_TOKENS
from server.wire.decode_responses import UNSUPPORTED_IN_RESPONSES
from tests.fakes import ScriptedEngine

COMMITTED = Path(__file__).parents[3] / "openapi" / "openapi.json"
DOCUMENT = json.loads(COMMITTED.read_text(encoding="utf-8"))
KEY = "sk-admin"
LONG = 1000

UNSUPPORTED = (
    UNSUPPORTED_IN_CHAT | UNSUPPORTED_IN_TEXT | UNSUPPORTED_IN_TOKENS | UNSUPPORTED_IN_RESPONSES
)
# What a request may be refused for although each of its fields is as described: rules between
# fields, limits of this server, and what it knows but does not support.
RULES = re.compile(
    r"continue_final_message|lora_path|min_tokens|n|prompt|stream|stream_options|top_logprobs"
    r"|messages\[\d+\]\.(content|tool_call_id|tool_calls\[\d+\]\.function\.arguments)"
    r"|tools\[\d+\](\.function)?\.name|tool_choice(\.(function|tools\[\d+\]))?(\.name)?"
    r"|input|input\[\d+\]\.(arguments|call_id)|reasoning_effort|previous_response_id"
    r"|structured_outputs(\.\w+)?|guided_\w+|dataset|run|definition|" + "|".join(UNSUPPORTED)
)


def without_long_lists(part: Any) -> Any:
    """The document, silent about the end of lists whose longest would make megabytes."""
    if isinstance(part, list):
        return [without_long_lists(one) for one in part]
    if isinstance(part, dict):
        return {
            name: without_long_lists(one)
            for name, one in part.items()
            if name != "maxItems" or one < LONG
        }
    return part


SHORT = without_long_lists(DOCUMENT)
by_path = pytest.mark.parametrize("path", SHORT["paths"])


def described(path: str) -> Any:
    """The API of one path, as its document has it."""
    api = schemathesis.openapi.from_dict(SHORT | {"paths": {path: SHORT["paths"][path]}})
    api.config.checks.negative_data_rejection.expected_statuses.append("413")
    return api


# Requests are made in the test of a path, not in every process that collects the tests.
@pytest.fixture
def api(path: str, request: pytest.FixtureRequest) -> Any:
    request.node._nodeid = request.node.nodeid  # schemathesis 4.32 reads what pytest 9.2 lacks
    return described(path)


@pytest.fixture
def api_at_random(api: Any) -> Any:
    """Boundaries are gone through once; to make them takes seconds."""
    api.config.phases.coverage.enabled = False
    return api


def the_same_each_time(examples: int) -> Callable[[Any], Any]:
    """So many random requests, and no surprises."""
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
    )


class Scripted(ScriptedEngine):
    """With a base that adapters may be offered for."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self._base = base

    @property
    def base(self) -> Base:
        return self._base


@pytest.fixture(scope="module")
def url(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = Home(tmp_path_factory.mktemp("home"))
    engine = Scripted(find_base(str(tiny), home))
    server = ServerSettings(home=home, port=0, admin_key=KEY, drain_timeout_s=1)
    with serve_in_thread(server, engine) as serving:
        yield serving.api_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections are kept: there are more requests than ports."""
    with requests.Session() as kept:
        kept.trust_env = False  # a tenth of a request's time is the search for proxies
        kept.headers["authorization"] = f"Bearer {KEY}"
        yield kept


@by_path
@schemathesis.pytest.from_fixture("api").parametrize()
@the_same_each_time(examples=5)
def test_requests_are_answered_as_described(
    case: Case, url: str, session: requests.Session
) -> None:
    """Status, headers and body are described, bad requests refused, good ones served."""
    judge(case, url, session)


@pytest.mark.slow
@by_path
@schemathesis.pytest.from_fixture("api_at_random").parametrize()
@the_same_each_time(examples=300)
def test_many_requests_are_answered_as_described(
    case: Case, url: str, session: requests.Session
) -> None:
    """More random requests."""
    judge(case, url, session)


def judge(case: Case, url: str, session: requests.Session) -> None:
    is_good = case.meta is not None and case.meta.generation.mode.is_positive
    if is_good:
        case.body = as_a_client_sends(case.body)
    response = case.call(base_url=url, session=session)
    # Every request has the key of its session; who gets in without is for test_access.
    excluded: list[CheckFunction] = [positive_data_acceptance, ignored_auth]
    if is_stream(response):
        excluded.append(response_schema_conformance)  # it takes frames for objects with "data"
        check_frames(case, response)
    if case.operation.path == "/admin/session":
        excluded.append(ignored_auth)  # it makes up cookies, and our key is sent beside them
    if lacks_type(case) or is_sent_as_another(case, response):
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
    if is_good and response.status_code == 400:
        assert RULES.fullmatch(response.json()["error"]["param"]), response.text


def as_a_client_sends(body: Any) -> Any:
    """With a model that exists, and whole numbers written as such: to JSON Schema 1.0 is one."""
    if isinstance(body, dict) and "model" in body:
        body = body | {"model": "poet"}
    return whole_numbers(body)


def whole_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole_numbers(one) for one in value]
    return value


def lacks_type(case: Case) -> bool:
    """Where there is one type only, the server does not insist on its name."""
    what = getattr(getattr(case.meta, "phase", None), "data", None)
    return "Missing required property: type" in (getattr(what, "description", None) or "")


def is_sent_as_another(case: Case, response: Response) -> bool:
    """Whether the URL does not have the query's mistake: a list of one is sent as that one, and an
    empty list is not sent.
    """
    query = case.query or {}
    sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    is_list_of_one = any(isinstance(value, list) and len(value) == 1 for value in query.values())
    return is_list_of_one or bool(query.keys() - sent.keys())


def is_stream(response: Response) -> bool:
    return response.headers.get("content-type", [""])[0].startswith("text/event-stream")


def check_frames(case: Case, response: Response) -> None:
    """Each event is of the schema that the document names; but for responses, an end follows."""
    described = DOCUMENT["paths"][case.operation.path]["post"]["responses"]["200"]["content"]
    schema = described["text/event-stream"]["schema"] | {"components": DOCUMENT["components"]}
    frames = response.text.strip().split("\n\n")
    if case.operation.path != "/v1/responses":  # whose last event is the response itself
        assert frames.pop() == "data: [DONE]"
    for frame in frames:
        Draft202012Validator(schema).validate(json.loads(frame.partition("data: ")[2]))
