"""The page of one Ax experiment, served by itself: `matloop dashboard --ax FILE_OR_URL`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from campaigns.ax_source import AxSource
from campaigns.web_server import address_of, listen, run
from campaigns.write_file import make_folder
from dashboards.web import shell
from dashboards.web.ax_watch import AxWatch

_HERE: Final = ("127.0.0.1", "localhost", "::1", "[::1]")


def create_app(
    source: AxSource, folder: Path, cards_folder: Path, *, anywhere: bool = False
) -> FastAPI:
    """The application that shows an experiment.

    Args:
        source: The experiment.
        folder: For what is known of it meanwhile.
        cards_folder: Where its cards are kept.
        anywhere: Answer whatever name the server is called by; else only this machine's.
    """
    watch = AxWatch(source, folder, cards_folder)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        yield
        watch.stop()

    app = FastAPI(title="matloop: an Ax experiment", lifespan=lifespan, openapi_url=None)
    app.state.watch = watch
    shell.dress(app)
    if not anywhere:
        # a page of somebody else's that calls itself this machine may not read along
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_HERE))

    @app.get("/")
    def page(request: Request) -> Response:
        told = watch.state()
        name = (told["experiment"] or {}).get("name") or source.shown
        return shell.page(
            request, "pages/ax.html.j2", title=name, stream="/ax/events", plotly=True,
            scripts=("js/ax.js",), told=told, api="/ax", alone=True,
        )  # fmt: skip

    @app.get("/ax/cards")
    def cards(since: float | None = None) -> JSONResponse:
        return JSONResponse(watch.cards(since), headers={"Cache-Control": "no-store"})

    @app.get("/ax/cards/{name:path}")
    def card(name: str) -> Response:
        path = watch.card(name)
        if path is None:
            return JSONResponse({"title": "there is no such card", "status": 404}, 404)
        return FileResponse(path, media_type="application/json")

    @app.post("/ax/cards")
    def recompute(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return JSONResponse({"title": "asked from another page", "status": 403}, 403)
        watch.recompute()
        return JSONResponse({"job": "ax"}, 202)

    @app.get("/ax/events")
    def events(request: Request) -> StreamingResponse:
        async def changes() -> AsyncIterator[str]:
            last, quiet = -1, 0.0
            while not await request.is_disconnected():
                rev = await asyncio.to_thread(lambda: watch.state()["rev"])
                if rev != last:
                    yield f'id: {rev}\ndata: {{"rev": {rev}}}\n\n'
                    last, quiet = rev, 0.0
                elif quiet > 15:
                    yield ": still here\n\n"
                    quiet = 0.0
                await asyncio.sleep(0.25)
                quiet += 0.25

        return StreamingResponse(
            changes(), media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )  # fmt: skip

    return app


def cache_folder(source: AxSource) -> Path:
    """Where what was computed of a source is kept between visits."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    name = hashlib.sha256(f"{source.where}\0{source.name}".encode()).hexdigest()[:16]
    return make_folder(root / "matloop" / "ax" / name)


def serve(
    given: str,
    experiment: str | None,
    host: str,
    port: int,
    tell: Callable[[str], Any] = print,
) -> None:
    """Serve the page until a signal ends it.

    Args:
        given: A JSON file, a SQLite file, or a database's URL.
        experiment: Its name, where a database holds several.
        host: The address to listen at.
        port: The port; 0 = any that is free.
        tell: Told where it listens.

    Raises:
        UsageError: There is no such experiment, or the address is taken.
        MatloopError: It cannot be read.
    """
    source = AxSource.find(given, experiment)
    near = host in _HERE
    listening = listen(host, port, "the page cannot be served there", 128)
    with tempfile.TemporaryDirectory(prefix="matloop-ax-") as own:
        app = create_app(source, Path(own), cache_folder(source), anywhere=not near)
        tell(f"showing {source.shown} at {address_of(listening, host)}")
        if not near:
            tell("anybody who reaches this address may look at it")
        run(app, listening, timeout_graceful_shutdown=1)
