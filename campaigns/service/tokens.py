"""Keys to the service: made once, shown once, and kept as hashes.

A key is ``mlk_<id>_<secret>``. Its secret has 256 random bits, so one round of SHA-256 keeps it as
well as any number would.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.errors import UsageError, did_you_mean
from campaigns.store.models import ApiToken, CampaignRow, utc_now

Scope = Literal["read", "work", "ingest", "decide", "admin"]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)


@dataclass(frozen=True)
class Caller:
    """Who makes a request.

    Attributes:
        id: Of the key.
        name: What the key is called.
        scopes: What it may do.
        campaign: The only campaign it may do it to; None = all.
    """

    id: str
    name: str
    scopes: frozenset[str]
    campaign: str | None


def make(
    session: Session,
    name: str,
    scopes: Sequence[str],
    campaign: str | None = None,
    days: float | None = None,
) -> tuple[str, dict[str, Any]]:
    """Make a key.

    Args:
        session: Of the transaction.
        name: What to call it.
        scopes: What it may do.
        campaign: Only to this campaign.
        days: Until it expires; None = it does not.

    Returns:
        The key, which nobody can find again, and what there is to know of it.

    Raises:
        UsageError: There is no such scope or campaign.
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise UsageError(
                f"{scope!r} is nothing that a key can be for", hint=did_you_mean(scope, SCOPES)
            )
    campaign_id = None
    if campaign is not None:
        campaign_id = session.scalar(select(CampaignRow.id).where(CampaignRow.name == campaign))
        if campaign_id is None:
            raise UsageError(f"there is no campaign {campaign!r}", unchanged="no key was made")
    secret = secrets.token_urlsafe(32)
    row = ApiToken(
        id=secrets.token_hex(6),
        name=name,
        hash=_hash(secret),
        scopes=" ".join(s for s in SCOPES if s in scopes),
        campaign_id=campaign_id,
        created=utc_now(),
        expires=None if days is None else utc_now() + timedelta(days=days),
    )
    session.add(row)
    session.flush()
    return f"mlk_{row.id}_{secret}", described(row, campaign)


def described(row: ApiToken, campaign: str | None) -> dict[str, Any]:
    """What there is to know of a key, as JSON; nothing that opens anything."""
    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes.split(),
        "campaign": campaign,
        "created": row.created.isoformat(),
        "expires": row.expires.isoformat() if row.expires else None,
        "revoked": row.revoked.isoformat() if row.revoked else None,
    }


def listed(session: Session) -> list[dict[str, Any]]:
    """All keys, oldest first."""
    rows = session.execute(
        select(ApiToken, CampaignRow.name)
        .outerjoin(CampaignRow, CampaignRow.id == ApiToken.campaign_id)
        .order_by(ApiToken.created, ApiToken.id)
    )
    return [described(row, campaign) for row, campaign in rows]


def revoke(session: Session, id: str) -> bool:
    """End a key; whether there was one."""
    row = session.get(ApiToken, id)
    if row is not None and row.revoked is None:
        row.revoked = utc_now()
    return row is not None


def any_is_valid(session: Session) -> bool:
    """Whether there is a key with which somebody could come in."""
    return bool(
        session.scalar(select(func.count()).select_from(ApiToken).where(ApiToken.revoked.is_(None)))
    )


def check(session: Session, key: str, now: datetime) -> Caller | None:
    """Whose key it is; None if it is none, or has ended."""
    kind, _, rest = key.partition("_")
    id, _, secret = rest.partition("_")
    if kind != "mlk" or not (id.isascii() and id.isalnum()) or not secret or len(key) > 200:
        return None
    found = session.execute(
        select(ApiToken, CampaignRow.name)
        .outerjoin(CampaignRow, CampaignRow.id == ApiToken.campaign_id)
        .where(ApiToken.id == id)
    ).first()
    if found is None:
        return None
    row, campaign = found
    if not hmac.compare_digest(row.hash, _hash(secret)):
        return None
    if row.revoked is not None or (row.expires is not None and row.expires <= now):
        return None
    return Caller(row.id, row.name, frozenset(row.scopes.split()), campaign)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
