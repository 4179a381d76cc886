"""Keys, and the page by which a browser takes one."""

from __future__ import annotations

import html
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from campaigns.service import bodies, tokens
from campaigns.service.auth import COOKIE, Keys, require
from campaigns.service.core import Here
from campaigns.service.problems import Refused
from campaigns.service.strict_route import StrictRoute
from campaigns.service.tokens import Caller

Admin = Annotated[Caller, Depends(require("admin"))]
router = APIRouter(
    prefix="/v1/tokens", tags=["admin"], route_class=StrictRoute,
    dependencies=[Depends(require("admin"))],
)  # fmt: skip
pages = APIRouter(include_in_schema=False)

YEAR = 365 * 86400

_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>matloop</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:3em auto;
max-width:34em;padding:0 1em}input{width:100%;box-sizing:border-box}
input,button{font:inherit;padding:.35em .6em}</style>
<h1>matloop</h1><form method="get" action="/login"><label>Your key<input name="key"
autocomplete="off" required autofocus placeholder="mlk_..."></label>
<input type="hidden" name="next" value="NEXT">
<p><button>Come in</button></form><p><strong>TOLD</strong>
<p><code>matloop token create NAME</code> on the server makes a key."""


@router.get("")
def listed(here: Here, caller: Admin) -> dict[str, Any]:
    """The keys there are, without what opens anything."""
    found = here.read(tokens.listed)
    if caller.campaign is not None:
        found = [one for one in found if one["campaign"] == caller.campaign]
    return {"tokens": found}


@router.post("", status_code=201)
async def make(body: bodies.NewToken, here: Here, caller: Admin) -> dict[str, Any]:
    """Make a key. It is in this answer, and nowhere else: a repetition makes another."""
    if caller.campaign not in (None, body.campaign):
        raise Refused(403, "this key makes keys for its own campaign only", kind="campaign")

    def change(session: Session) -> dict[str, Any]:
        key, told = tokens.make(session, body.name, body.scopes, body.campaign, body.days)
        return {**told, "key": key}

    return await here.writer.change(change)


@router.delete("/{id}")
async def revoke(id: str, request: Request, here: Here, caller: Admin) -> dict[str, Any]:
    """End a key: here at once, on other servers within seconds."""

    def change(session: Session) -> bool:
        known = {one["id"]: one["campaign"] for one in tokens.listed(session)}
        if id not in known or caller.campaign not in (None, known[id]):
            return False
        return tokens.revoke(session, id)

    if not await here.writer.change(change):
        raise Refused(404, "there is no such key", unchanged="all keys")
    keys: Keys = request.app.state.keys
    keys.forget()
    return {"id": id, "revoked": True}


@pages.get("/login")
async def login(request: Request, key: str | None = None, next: str = "/") -> Response:
    """Take a key for this browser, as a cookie that no script can read."""
    if key is None:
        return _form("", next)
    try:
        keys: Keys = request.app.state.keys
        await keys.caller(key.strip())
    except Refused as refused:
        return _form(refused.detail or refused.title, next, 401)
    # only to a place of this site
    place = next if next.startswith("/") and not next.startswith(("//", "/\\")) else "/"
    answer = RedirectResponse(place, 303)
    answer.set_cookie(
        COOKIE, key.strip(), max_age=YEAR, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


def _form(told: str, next: str, status: int = 200) -> HTMLResponse:
    text = _FORM.replace("TOLD", html.escape(told)).replace("NEXT", html.escape(next))
    return HTMLResponse(text, status)


@pages.get("/logout")
async def logout() -> Response:
    """Forget the key in this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer
