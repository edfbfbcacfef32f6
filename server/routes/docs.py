"""``GET /docs``: the API as a page to read and try out, without anything from other hosts.

The browser's files come with a package (Swagger UI, Apache-2.0); only files named here are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from server.access.scopes import FREE
from server.http.pages import HEADERS

_OURS = Path(__file__).parent.parent / "docs"
# A blueprint for Flask, which is never imported: here it is a directory with Swagger UI.
_PACKAGE = "flask_swagger_ui"
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
}


@cache
def files() -> Mapping[str, Path]:
    """What the page needs, by name.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No package {_PACKAGE}: install flask-swagger-ui.")
    theirs = Path(spec.origin).parent / "dist"
    names = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    return {name: theirs / name for name in names} | {"start.js": _OURS / "start.js"}


@get("/docs", opt=FREE, include_in_schema=False, sync_to_thread=True)
def docs_page() -> Response[bytes]:
    """The page; it is the same for everyone, and asks for a key only to try something out."""
    page = (_OURS / "index.html").read_bytes()
    return Response(page, media_type="text/html", headers=HEADERS)


@get("/docs/{name:str}", opt=FREE, include_in_schema=False, sync_to_thread=True)
def docs_file(name: FromPath[str]) -> Response[bytes]:
    """A file of the page."""
    path = files().get(name)
    if path is None:
        raise NotFoundException
    headers = HEADERS | {"cache-control": "max-age=3600"}
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)
