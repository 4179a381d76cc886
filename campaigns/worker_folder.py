"""What a worker keeps on disk, so that being killed costs it no result.

Each worker has a folder of its own in the one that all workers of a machine or a job array share:

    <folder>/<worker>/worker.json       which server and campaign
                      lock              held as long as the worker lives
                      leases/<key>.json a lease, from before it is worked on until it is answered
                      results/<key>.json what came of it (`loop.executor`)

A worker that starts takes over the folders whose worker is dead.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campaigns.errors import MatloopError
from campaigns.leases import Lease
from campaigns.write_file import make_folder, write_whole

_OUTSIDE = re.compile(r"[^A-Za-z0-9._-]+")


class WorkerFolder:
    """The folder of one worker, locked by this process until `close`.

    Make one with `begin` or `orphans`.

    Attributes:
        path: Where it is.
        about: Which server and campaign: `worker.json`.
    """

    def __init__(self, path: Path, descriptor: int, about: dict[str, Any]) -> None:
        self.path, self._descriptor, self.about = path, descriptor, about

    @classmethod
    def begin(cls, root: Path, worker: str, about: dict[str, Any]) -> WorkerFolder:
        """A new folder, locked.

        Args:
            root: The folder that workers share; made where needed.
            worker: The worker's name.
            about: What `orphans` finds it by: the server's address and the campaign.

        Raises:
            MatloopError: It cannot be written, or a worker of this name is at work in it.
        """
        path = make_folder(make_folder(root) / (_OUTSIDE.sub("-", worker).lstrip(".-") or "worker"))
        descriptor = _lock(path / "lock")
        if descriptor is None:
            raise MatloopError(
                f"a worker {worker!r} is at work here already",
                where=str(path),
                unchanged="that worker",
                hint="give this one another name with --name",
            )
        folder = cls(path, descriptor, about)
        make_folder(folder.results)
        make_folder(path / "leases")
        write_whole(path / "worker.json", json.dumps(about))
        return folder

    @classmethod
    def orphans(cls, root: Path, about: dict[str, Any]) -> Iterator[WorkerFolder]:
        """The folders that dead workers of the same server and campaign left, each locked."""
        for told in sorted(root.glob("*/worker.json")):
            try:
                found = json.loads(told.read_text("utf-8"))
            except (OSError, ValueError):
                continue  # being made, or being removed
            if found != about:
                continue
            descriptor = _lock(told.parent / "lock")
            if descriptor is None:
                continue  # it lives
            if told.exists():  # else another worker was quicker, and has done with it
                yield cls(told.parent, descriptor, found)
            else:
                os.close(descriptor)

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.path / "results"

    def leases(self) -> dict[str, Lease]:
        """The leases that were not answered, by key."""
        found: dict[str, Lease] = {}
        for path in sorted(self.path.glob("leases/*.json")):
            try:
                found[path.stem] = Lease.from_json(json.loads(path.read_text("utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                raise MatloopError(
                    "a lease that a worker kept cannot be read",
                    where=str(path),
                    why=str(error),
                    unchanged="it; no result is lost that is on the server",
                    hint="move the file away, and start the worker again",
                ) from error
        return found

    def keep(self, key: str, lease: Lease) -> None:
        """Write a lease down, before it is worked on.

        Raises:
            MatloopError: It cannot be written.
        """
        write_whole(self.path / "leases" / f"{key}.json", json.dumps(lease.to_json()))

    def drop(self, key: str) -> None:
        """Forget a lease that was answered, and its result."""
        for part in ("leases", "results"):
            (self.path / part / f"{key}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock it; remove it where everything in it was answered."""
        if not any(self.path.glob("leases/*.json")):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def key_of(lease: Lease) -> str:
    """The name of a lease's files."""
    return f"{lease.campaign}-{lease.trial}-{lease.token}"


def _lock(path: Path) -> int | None:
    """Lock a file; None where another process holds it, or the folder is gone.

    It is made where it is missing. The kernel frees it when the process ends, however it ends.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
