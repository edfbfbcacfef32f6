"""The query of a URL: fields that a route does not read are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server.access.doorkeeper import Doorkeeper
from server.settings import ServerSettings

COMMITTED = Path(__file__).parents[3] / "openapi" / "openapi.json"
PATHS: dict[str, dict[str, Any]] = json.loads(COMMITTED.read_text(encoding="utf-8"))["paths"]
QUERIES = {
    (method.upper(), path): [field for field in operation["parameters"] if field["in"] == "query"]
    for path, operations in PATHS.items()
    for method, operation in operations.items()
    if any(field["in"] == "query" for field in operation.get("parameters", ()))
}


@pytest.fixture
def keyed(client: TestClient[Any], settings: ServerSettings) -> TestClient[Any]:
    """With a key that opens everything."""
    client.app.state.doorkeeper = Doorkeeper(settings, token="token")
    client.headers["authorization"] = "Bearer token"
    return client


@pytest.mark.parametrize(("method", "path"), QUERIES, ids=map(" ".join, QUERIES))
def test_a_field_that_no_route_reads_is_refused(
    keyed: TestClient[Any], method: str, path: str
) -> None:
    """By name, before anything is looked for, and with those that it does read."""
    names = [field["name"] for field in QUERIES[method, path]]

    answer = keyed.request(method, path, params={names[-1]: "1", "aftre": "7"})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("aftre", "unknown_parameter")
    assert error["message"].startswith("aftre: ")
    assert error["message"].endswith(f"known: {', '.join(names)}.")


def test_what_is_refused_is_not_echoed_at_length(keyed: TestClient[Any]) -> None:
    """Whatever a client made of it."""
    error = keyed.get("/admin/logs", params={"x" * 5000: "1"}).json()["error"]

    assert error["param"] == "x" * 100
    assert len(error["message"]) < 200


def test_who_may_not_ask_is_told_only_that(client: TestClient[Any]) -> None:
    """Not which fields there are."""
    assert client.get("/admin/logs", params={"aftre": 7}).status_code == 401


def test_a_route_that_reads_no_query_lets_any_pass(client: TestClient[Any]) -> None:
    """Gateways and caches add fields of their own."""
    assert client.get("/v1/models", params={"api-version": "1"}).status_code == 200


def test_the_document_has_the_bounds_of_each_number() -> None:
    """Also where it may be left out."""
    schemas = [field["schema"] for fields in QUERIES.values() for field in fields]
    numbers = [schema for schema in schemas if '"integer"' in json.dumps(schema)]

    assert len(numbers) > 8
    assert all({"minimum", "maximum"} <= schema.keys() for schema in numbers)
