"""What every page has around it: the frame, the header, what browsers may load, and errors."""

from __future__ import annotations

import base64
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from campaigns import __version__
from dashboards import typography
from dashboards.web import assets
from dashboards.web.rest import Refused, rest

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).with_name("templates")

# Scripts from here only, and none in the page; plotly and 3Dmol set styles on elements.
POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# The screens of a campaign: key, address below /c/CAMPAIGN, label.
SCREENS: Final = (
    ("overview", "", "Overview"),
    ("decide", "/decide", "Decide"),
    ("front", "/front", "Front"),
    ("map", "/map", "Latent map"),
    ("ingest", "/ingest", "Ingest"),
    ("model", "/model", "Model"),
    ("elements", "/elements", "Elements"),
    ("ax", "/ax", "Ax analyses"),
    ("report", "/report", "Report"),
)


def page(
    request: Request,
    template: str,
    *,
    title: str,
    status: int = 200,
    campaign: str | None = None,
    screen: str = "",
    stream: str | None = None,
    plotly: bool = False,
    molecules: bool = False,
    scripts: tuple[str, ...] = (),
    **told: Any,
) -> HTMLResponse:
    """A page, or one block of it where the address asks for `?part=BLOCK`.

    Args:
        request: Of the page.
        template: Below `templates/`; it extends `base.html.j2`.
        title: Of the page.
        status: The HTTP status.
        campaign: Whose page it is: its screens are listed, and its event stream is followed.
        screen: Which of `SCREENS` it is.
        stream: The address of an event stream to follow in place of the campaign's.
        plotly: Load plotly.js.
        molecules: Load 3Dmol.
        scripts: Modules to load, as `js/front.js`.
        told: What the template shows.
    """
    if campaign is not None and stream is None:
        after = getattr(request.state, "rev", 0)
        stream = f"/v1/campaigns/{campaign}/events/stream?after={after}"
    context = {
        "title": title,
        "campaign": campaign,
        "screen": screen,
        "screens": SCREENS,
        "stream": stream if request.query_params.get("live") != "0" else None,
        "plotly": plotly,
        "molecules": molecules,
        "scripts": scripts,
        "theme": request.cookies.get("theme", ""),
        "path": request.url.path,
        "query": request.query_params,
        "pill": _pill(told.get("standing", told.get("told"))) if campaign is not None else None,
        **told,
    }
    found = environment().get_template(template)
    part = request.query_params.get("part")
    if part and part in found.blocks:
        text = "".join(found.blocks[part](found.new_context(context)))
    else:
        text = found.render(context)
    return HTMLResponse(text, status, headers=_HEADERS)


def _pill(told: Any) -> Markup | None:
    """What a campaign is doing, for the header, where the page has asked that already."""
    from dashboards.web import shown

    if not isinstance(told, dict) or not {"counted", "budget", "engine"} <= set(told):
        return None
    spent = min(told["counted"] / max(int(told["budget"] or 0), 1), 1.0)
    found = environment().get_template("pill.html.j2")
    state, engine = shown.state(told), shown.engine(told)
    return Markup(found.render(told=told, state=state, engine=engine, spent=spent))


async def seen(request: Request) -> None:
    """Note the newest event before a campaign's page is made: its stream tells of later ones.

    Without that, the stream's first word would make the page fetch all its parts a second time.
    """
    campaign = request.path_params.get("campaign")
    if campaign is not None and not request.query_params.get("part"):
        told = await rest(request).get(f"/v1/campaigns/{campaign}/events", last=1)
        request.state.rev = told["last"]


@cache
def _icon() -> str:
    """The icon in the page itself: a request less."""
    data = (assets.STATIC / "icon.svg").read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


@cache
def environment() -> Environment:
    """The templates, with what all of them may call."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"asset": assets.asset, "version": __version__, "icon": _icon()}
    made.filters |= {
        "quantity": typography.quantity,
        "number": typography.number,
        "label": typography.label,
        "unit": typography.unit,
        "words": typography.name,
        "formula": typography.formula_html,
        "design": typography.design_name_html,
        "design_text": typography.design_name,
        "space_group": typography.space_group_html,
        "percent": typography.percent,
        "duration": typography.duration,
        "plural": typography.plural,
        "when": _when,
    }
    return made


def _when(time: str | datetime | None) -> str:
    """A time to read; the page's script puts how long ago it was beside it."""
    if time is None:
        return ""
    at = datetime.fromisoformat(time) if isinstance(time, str) else time
    return f"{at:%-d %b %Y, %H:%M} UTC"


def dress(app: FastAPI) -> None:
    """Serve the files, compress answers, and show a page's errors as a page."""
    from fastapi.middleware.gzip import GZipMiddleware

    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.include_router(assets.router)
    app.add_exception_handler(Refused, _refused)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    if error.status == 401:
        return RedirectResponse(f"/login?{urlencode({'next': _asked(request)})}", 303)
    return page(
        request,
        "problem.html.j2",
        title=error.problem.get("title") or "This cannot be shown",
        status=error.status,
        problem=_whole(error.problem),
    )


def _asked(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _whole(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem document with every member that a page may show; None where it has it not."""
    errors = [dict.fromkeys(("where", "what", "hint")) | e for e in problem.get("errors") or ()]
    members = dict.fromkeys(("title", "detail", "unchanged", "hint"))
    return members | problem | {"errors": errors}
