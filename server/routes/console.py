"""``GET /console``: the web console's files, which are part of this package.

The page is the same for everyone and holds nothing secret, so it needs no key; everything that it
then asks for does.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from server.access import FREE
from server.pages import HEADERS

FILES = Path(__file__).parent.parent / "console" / "static"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}

# A package for charts from Python, which is never imported: here it is a directory with uPlot.
_LIBRARY = "youplot"

# Asked for again each time, and answered by 304.
_CACHED = {"cache-control": "no-cache"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@cache
def files() -> Mapping[str, _File]:
    """Every file by its path below the console; read once, so that no request names a file."""
    found = {}
    for path in sorted(FILES.rglob("*")):
        if path.is_file():
            found[path.relative_to(FILES).as_posix()] = _file(path)
    return found


def _file(path: Path) -> _File:
    content = path.read_bytes()
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, kind or "application/octet-stream", etag)


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
    asked = name.strip("/") or "index.html"
    found = library().get(asked) if asked.startswith("vendor/") else files().get(asked)
    if found is None:
        raise NotFoundException
    headers = HEADERS | _CACHED | {"etag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(b"", status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
