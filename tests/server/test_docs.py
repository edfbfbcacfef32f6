"""``/docs``: the API's page, whole, from this server alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from litestar.testing import TestClient

from adapters.keyring import Keyring
from server.settings import ServerSettings

FILES = {
    "/docs/swagger-ui.css": "text/css",
    "/docs/swagger-ui-bundle.js": "text/javascript",
    "/docs/start.js": "text/javascript",
    "/docs/favicon-32x32.png": "image/png",
}


class Page(HTMLParser):
    """What a page refers to, and whether it holds scripts or styles within itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: set[str] = set()
        self.links: set[str] = set()
        self.has_inline_parts = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links |= {given["href"]} if tag == "a" and given.get("href") else set()
        self.files |= {given[name] for name in ("src", "href") if name in given and tag != "a"}
        is_inline = tag == "style" or (tag == "script" and "src" not in given)
        self.has_inline_parts |= is_inline or any(name[:2] == "on" for name in given)


def test_the_page_refers_to_this_server_alone(client: TestClient[Any]) -> None:
    """Nothing of other hosts, nothing inline; each file is there, in its type, not empty."""
    answer = client.get("/docs")
    page = Page(answer.text)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.files == FILES.keys()
    assert page.links == {"/openapi.json"}
    assert not page.has_inline_parts
    for path, kind in FILES.items():
        file = client.get(path)
        assert file.status_code == 200
        assert file.headers["content-type"].partition(";")[0] == kind
        assert file.headers["x-content-type-options"] == "nosniff"
        assert file.content


def test_the_browser_is_told_to_load_nothing_else(client: TestClient[Any]) -> None:
    """Whatever the library would try: no script, connection or frame of another origin."""
    policy = client.get("/docs").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    assert rules.pop("default-src") == "'none'"
    assert rules.pop("script-src") == rules.pop("connect-src") == "'self'"
    assert rules.pop("frame-ancestors") == "'none'"
    for sources in rules.values():
        assert set(sources.split()) <= {"'self'", "'none'", "data:"}


def test_what_starts_it_asks_nobody_else(client: TestClient[Any]) -> None:
    """The document is ours, no validator is asked, and a key is not kept in the browser."""
    script = client.get("/docs/start.js").text

    assert 'url: "/openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "persistAuthorization: false" in script
    assert not re.search(r"https?:", script)


def test_it_opens_without_a_key(client: TestClient[Any], settings: ServerSettings) -> None:
    """So does the document that it shows, in which keys are described for its button."""
    Keyring(settings.home.keys).create("laptop")

    assert client.get("/v1/models").status_code == 401
    for path in ("/docs", "/openapi.json", *FILES):
        assert client.get(path).status_code == 200, path
    schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer"]


@pytest.mark.parametrize(
    "name", ["swagger-ui.js", "index.html", "..%2Findex.html", "../app.py", "%2e%2e/app.py", "a/b"]
)
def test_only_its_own_files_are_served(client: TestClient[Any], name: str) -> None:
    """Not what else lies in their directories, and nothing above."""
    assert client.get(f"/docs/{name}").status_code == 404
