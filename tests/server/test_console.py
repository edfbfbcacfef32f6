"""The files of the console: whole, inert to what is not theirs, and cheap to ask for again."""

from __future__ import annotations

import re
from typing import Any

from litestar.testing import TestClient

from server.routes.console import FILES, files

MOST_COMPRESSED = 300_000


def test_the_page_is_open_to_all_and_all_it_needs_is_there(client: TestClient[Any]) -> None:
    """Everything that a file names is served, with a type that browsers run or draw."""
    page = client.get("/console")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="(/console/[^"]+)"', page.text))
    for name in files():
        source = (FILES / name).read_text(encoding="utf-8")
        stem = name.rpartition("/")[0]
        named |= {
            f"/console/{stem}/{each}"
            for each in re.findall(r'(?:from |import\()"\./([^"]+)"', source)
        }
    assert len(named) > 10
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for path in named:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith(kinds[path.rpartition(".")[2]])


def test_the_browser_is_told_to_load_and_run_nothing_else(client: TestClient[Any]) -> None:
    """A strict policy on every file, and nothing in them that it would have to allow."""
    for name in ("", "/style.css", "/js/main.js"):
        policy = client.get(f"/console{name}").headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    for name in files():
        source = (FILES / name).read_text(encoding="utf-8")
        assert "innerHTML" not in source, name
        assert not re.search(r"https?://(?!www\.w3\.org/)(?![^\s]*\\s)", source), name


def test_the_charts_come_with_an_installed_package(client: TestClient[Any]) -> None:
    """The library and its style, under the same policy, and nothing else of the package."""
    for name, kind in (("uplot.js", "text/javascript"), ("uplot.css", "text/css")):
        answer = client.get(f"/console/vendor/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "u-over" in answer.text
    assert client.get("/console/vendor/__init__.py").status_code == 404


def test_a_file_is_sent_once(client: TestClient[Any]) -> None:
    """By the address that the page has for it, it is kept; else its tag gives 304."""
    for path in ("/console", "/console/style.css"):
        first = client.get(path)
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert first.headers["cache-control"] == "no-cache"
    (style,) = re.findall(r'stylesheet" href="([^"]+)"', client.get("/console").text)
    assert client.get(style).headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(style).content == client.get("/console/style.css").content
    old = client.get("/console/0123456789abcdef/style.css")  # of a page that is open since then
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")


def test_files_go_out_compressed(client: TestClient[Any]) -> None:
    """For whoever takes gzip, with a tag of their own; as they are for everyone else."""
    packed = client.get("/console/style.css", headers={"accept-encoding": "br, gzip;q=0.5"})
    plain = client.get("/console/style.css", headers={"accept-encoding": "gzip;q=0, identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


def test_paths_lead_nowhere_else(client: TestClient[Any]) -> None:
    """Only files that the console has, whatever the path tries."""
    for path in ("/console/none.js", "/console/../app.py", "/console/%2e%2e/app.py", "/console/js"):
        assert client.get(path).status_code == 404, path


def test_the_first_load_is_small() -> None:
    """All files together as they go out, but for the chart library."""
    assert sum(len(file.packed) for file in files().values()) < MOST_COMPRESSED


def test_every_word_is_there_in_both_languages() -> None:
    """Each key that a page uses is in the list, and each has Chinese and English."""
    words = (FILES / "js" / "words.js").read_text(encoding="utf-8")
    known = set(re.findall(r'^  "([^"]+)": \[', words, re.MULTILINE))
    used: set[str] = set()
    for name in files():
        if name.endswith(".js"):
            source = (FILES / name).read_text(encoding="utf-8")
            used |= set(re.findall(r'\bt\("([^"]+)"', source))
    assert used
    assert used <= known, used - known
    for entry in re.findall(r'^  "[^"]+": \[(.*?)\],?$', words, re.MULTILINE | re.DOTALL):
        assert len(re.findall(r'"(?:[^"\\]|\\.)*"', entry)) == 2, entry
