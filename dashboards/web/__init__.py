"""The pages of a running campaign, served beside the REST service and made from its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


def mount(app: FastAPI) -> None:
    """Put the pages and their files onto the service's application.

    It is the entry point `service` of the group `matloop.pages`, by which the service finds the
    pages without knowing them.
    """
    from fastapi import Depends

    from dashboards.web import figures, pages, pages_ax, rest_routes, shell

    shell.dress(app)
    app.include_router(rest_routes.router)
    for screens in (pages.router, pages_ax.router):
        app.include_router(screens, dependencies=[Depends(shell.seen)])
    app.include_router(figures.router)
