"""The application: the campaigns of one database over HTTP."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from campaigns import __version__
from campaigns.service import (
    limits,
    problems,
    routes_admin,
    routes_decide,
    routes_ingest,
    routes_notes,
    routes_read,
    routes_work,
)
from campaigns.service.auth import Keys
from campaigns.service.core import Here, Service
from campaigns.service.settings import ServiceSettings

_ABOUT = """Design campaigns for laboratories, workers and people.

Ask for a trial (`leases`), say that you live (`heartbeat`), and report (`result` or `fail`). What
was measured without a lease comes by `observations`. Every request but `/v1/health` has a key:
`Authorization: Bearer mlk_...`."""


def create_app(url: str | None = None, *, settings: ServiceSettings | None = None) -> FastAPI:
    """The service over a database.

    Args:
        url: The database, as `Store` takes it.
        settings: Limits; default: those of `ServiceSettings`.

    Returns:
        An ASGI application. Its state has ``service`` (see `Service`) and ``keys``.

    Raises:
        MatloopError: The database cannot be used.
    """
    settings = settings or ServiceSettings()
    service = Service(url, settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="matloop", version=__version__, description=_ABOUT, lifespan=lifespan,
        openapi_url="/openapi.json", redoc_url=None,
    )  # fmt: skip
    app.state.service = service
    app.state.keys = Keys(service)
    app.add_middleware(limits.BodyLimit, settings=settings)
    problems.install(app)

    @app.get("/v1/health", tags=["health"])
    def health(here: Here) -> dict[str, Any]:
        """Whether the service and its database answer; needs no key."""
        with here.store.read() as session:
            here.store.now(session)
        return {"status": "ok", "version": __version__, "database": here.store.kind}

    for routes in (
        routes_read,
        routes_work,
        routes_ingest,
        routes_decide,
        routes_notes,
        routes_admin,
    ):
        app.include_router(routes.router)
    app.include_router(routes_admin.pages)
    _with_pages(app)
    return app


def _with_pages(app: FastAPI) -> None:
    """Serve the dashboard too, where it is installed: by entry point, as exporters are."""
    from importlib.metadata import entry_points

    if importlib.util.find_spec("campaigns.service.views") is not None:
        views: Any = importlib.import_module("campaigns.service.views")
        app.include_router(views.router)
    for found in entry_points(group="matloop.pages"):
        found.load()(app)
