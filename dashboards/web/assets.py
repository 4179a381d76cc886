"""The pages' files: ours, the vendored ones, and plotly.js out of the installed plotly.

Every address holds a digest of what it leads to, so that a browser keeps it for good; and each
file is compressed once.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

STATIC: Final = Path(__file__).with_name("static")
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}

router = APIRouter(include_in_schema=False)


@cache
def _files() -> dict[str, Path]:
    """Every file that is served, by the name it is asked for by."""
    import plotly

    found = {
        path.relative_to(STATIC).as_posix(): path
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _TYPES
    }
    found["plotly.min.js"] = Path(plotly.__file__).with_name("package_data") / "plotly.min.js"
    return found


@cache
def _release() -> str:
    """A digest of all our files: modules import each other by name, so they change together."""
    digest = hashlib.sha256()
    for name, path in _files().items():
        if name != "plotly.min.js":
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _plotly_release() -> str:
    import plotly

    return f"plotly-{plotly.__version__}"


def asset(name: str) -> str:
    """The address of a file, as `app.css`, `js/front.js`, `vendor/3Dmol-min.js`, `plotly.min.js`.

    Raises:
        KeyError: There is no such file.
    """
    _files()[name]
    return f"/static/{_plotly_release() if name == 'plotly.min.js' else _release()}/{name}"


@cache
def _body(name: str, small: bool) -> bytes:
    data = _files()[name].read_bytes()
    return gzip.compress(data, 6, mtime=0) if small else data


@router.get("/static/{release}/{name:path}")
def static(release: str, name: str, request: Request) -> Response:
    """One file. An address of an older release leads to the present file, which is not kept."""
    path = _files().get(name)
    if path is None:
        return PlainTextResponse("no such file", 404)
    small = "gzip" in request.headers.get("accept-encoding", "")
    present = release in (_release(), _plotly_release())
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if present else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if small:
        headers["Content-Encoding"] = "gzip"
    return Response(_body(name, small), media_type=_TYPES[path.suffix], headers=headers)
