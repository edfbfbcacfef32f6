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

from server.access import FREE

# Scripts, styles and requests of this server alone, nothing inline; icons are drawn from data.
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "content-security-policy": "; ".join(map(" ".join, _POLICY.items())),
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
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
    return Response(page, media_type="text/html", headers=_HEADERS)


@get("/docs/{name:str}", opt=FREE, include_in_schema=False, sync_to_thread=True)
def docs_file(name: FromPath[str]) -> Response[bytes]:
    """A file of the page."""
    path = files().get(name)
    if path is None:
        raise NotFoundException
    headers = _HEADERS | {"cache-control": "max-age=3600"}
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)
