"""Files that evaluations left: kept in the database by the hash of what is in them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns.service.bodies import File
from campaigns.service.problems import Refused
from campaigns.store.models import Artifact, Blob, CampaignRow, Trial

BLOB: Final = "blob:"

# A name is never a path: it is shown, and offered when the file is saved.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +()=@-]{0,199}")


@dataclass(frozen=True)
class Kept:
    """A file that came: its name, its type, its text or else its bytes, and their hash."""

    name: str
    media_type: str
    text: str | None
    data: bytes
    sha256: str


def decoded(files: Sequence[File]) -> list[Kept]:
    """The files of a report.

    Raises:
        Refused: A name that could be a path, or bytes that are no base64.
    """
    kept, errors = [], []
    for at, file in enumerate(files):
        if not _NAME.fullmatch(file.name):
            what = "a file's name has letters, digits, and . _ - between them, and no folder"
            errors.append({"where": f"artifacts.{at}.name", "what": what})
            continue
        try:
            data = (
                base64.b64decode(file.base64, validate=True)
                if file.base64 is not None
                else (file.text or "").encode()
            )
        except (binascii.Error, ValueError):
            errors.append({"where": f"artifacts.{at}.base64", "what": "it is no base64"})
            continue
        digest = hashlib.sha256(data).hexdigest()
        kept.append(Kept(file.name, file.media_type, file.text, data, digest))
    if errors:
        raise Refused(422, "files cannot be taken in", unchanged="the trial", errors=errors)
    return kept


def keep(session: Session, trial: Trial, files: Sequence[Kept]) -> None:
    """Keep files with a trial; what it has already is kept once."""
    if not files:
        return
    there = {(a.name, a.sha256) for a in trial.artifacts}
    for file in files:
        if (file.name, file.sha256) in there:
            continue
        path = None
        if file.text is None:
            path = BLOB + file.sha256
            if session.get(Blob, file.sha256) is None:
                session.add(Blob(sha256=file.sha256, data=file.data))
                session.flush()
        trial.artifacts.append(
            Artifact(
                name=file.name, media_type=file.media_type, text=file.text, path=path,
                sha256=file.sha256,
            )
        )  # fmt: skip
    session.flush()


def found(session: Session, sha256: str, campaign: str | None) -> tuple[str, str, bytes] | None:
    """Name, type and bytes of an artifact; None where there is none that the caller may see.

    Args:
        session: Any.
        sha256: The hash of its content.
        campaign: The only campaign that the caller may see; None = all.
    """
    query = (
        select(Artifact)
        .join(Trial, Trial.id == Artifact.trial_id)
        .join(CampaignRow, CampaignRow.id == Trial.campaign_id)
        .where(Artifact.sha256 == sha256)
        .order_by(Artifact.id)
        .limit(1)
    )
    if campaign is not None:
        query = query.where(CampaignRow.name == campaign)
    row = session.scalar(query)
    if row is None:
        return None
    if row.text is not None:
        return row.name, row.media_type, row.text.encode()
    if row.path and row.path.startswith(BLOB):
        blob = session.get(Blob, row.path.removeprefix(BLOB))
        return None if blob is None else (row.name, row.media_type, blob.data)
    return None
