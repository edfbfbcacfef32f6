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
            content = path.read_bytes()
            kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            name = path.relative_to(FILES).as_posix()
            found[name] = _File(content, kind or "application/octet-stream", etag)
    return found


@get(["/console", "/console/{name:path}"], include_in_schema=False, opt=FREE)
async def console_file(
    request: Request[Any, Any, Any], name: FromPath[str] = "/"
) -> Response[bytes]:
    """One of the console's files; the page itself for the path without a name."""
    found = files().get(name.strip("/") or "index.html")
    if found is None:
        raise NotFoundException
    headers = HEADERS | _CACHED | {"etag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(b"", status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
