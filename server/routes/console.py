"""``GET /console``: the web console's files, which are part of this package.

The page is the same for everyone and holds nothing secret, so it needs no key; everything that it
then asks for does. It names its files by a version, the hash of them all, so that browsers may keep
them for good; modules name each other from where they are, and so stay within that version.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from server.access.scopes import FREE
from server.http.pages import HEADERS

FILES = Path(__file__).parent.parent / "console" / "static"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}

# A package for charts from Python, which is never imported: here it is a directory with uPlot.
_LIBRARY = "youplot"

_OLD_VERSION = re.compile(r"[0-9a-f]{16}/")

# Asked for again each time, and answered by 304.
_ASKED_AGAIN = {"cache-control": "no-cache"}
# What its address names by content (RFC 8246).
_KEPT = {"cache-control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class _File:
    """A file, and the same packed by gzip."""

    content: bytes
    packed: bytes
    media_type: str
    etag: str

    def tag(self, *, is_packed: bool) -> str:
        """The entity tag of one of the two (RFC 9110, 8.8.3)."""
        return f'"{self.etag}-gzip"' if is_packed else f'"{self.etag}"'


@cache
def files() -> Mapping[str, _File]:
    """Every file by its path below the console; read once, so that no request names a file."""
    found = {}
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            found[path.relative_to(FILES).as_posix()] = _file(path)
    return found


@cache
def version() -> str:
    """Differs where any file does, the chart library's among them."""
    tags = [f"{name} {file.etag}" for each in (files(), library()) for name, file in each.items()]
    return hashlib.sha256("\n".join(tags).encode()).hexdigest()[:16]


@cache
def page() -> _File:
    """The page itself, which names its files by their version."""
    source = files()["index.html"].content
    return _made(source.replace(b'"/console/', b'"/console/%s/' % version().encode()), "text/html")


def _file(path: Path) -> _File:
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return _made(path.read_bytes(), kind or "application/octet-stream")


def _made(content: bytes, kind: str) -> _File:
    packed = gzip.compress(content, mtime=0)
    return _File(content, packed, kind, hashlib.sha256(content).hexdigest()[:32])


@cache
def library() -> Mapping[str, _File]:
    """The chart library's files by the names that the console asks for (uPlot, MIT).

    They come with an installed package, of which no code runs.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = find_spec(_LIBRARY)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No package {_LIBRARY}: install it.")
    theirs = Path(spec.origin).parent / "vendor"
    names = {"vendor/uplot.js": "uplot.iife.min.js", "vendor/uplot.css": "uplot.min.css"}
    return {name: _file(theirs / file) for name, file in names.items()}


@get(["/console", "/console/{name:path}"], include_in_schema=False, opt=FREE)
async def console_file(
    request: Request[Any, Any, Any], name: FromPath[str] = "/"
) -> Response[bytes]:
    """One of the console's files; the page itself for the path without a name."""
    asked = name.strip("/")
    is_versioned = asked.startswith(f"{version()}/")
    if is_versioned or _OLD_VERSION.match(asked):  # a page that is open since an older server
        asked = asked.partition("/")[2]
    found = _found(asked)
    is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    tag = found.tag(is_packed=is_packed)
    headers = HEADERS | (_KEPT if is_versioned else _ASKED_AGAIN)
    headers |= {"etag": tag, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    if is_packed:
        headers["content-encoding"] = "gzip"
    content = found.packed if is_packed else found.content
    return Response(content, media_type=found.media_type, headers=headers)


def _found(asked: str) -> _File:
    """The file of that path.

    Raises:
        NotFoundException: there is none.
    """
    if asked in ("", "index.html"):
        return page()
    found = library().get(asked) if asked.startswith("vendor/") else files().get(asked)
    if found is None:
        raise NotFoundException
    return found


def _takes_gzip(accepted: str) -> bool:
    """Whether the header `accept-encoding` has gzip, and not with a weight of 0."""
    for each in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q=0(\.0*)?", one) for one in parameters)
    return False
