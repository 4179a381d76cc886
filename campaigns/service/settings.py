"""What whoever starts the service may choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceSettings:
    """Limits and habits of a service.

    Attributes:
        rate: Requests a second that one key may make in the long run.
        burst: Requests that it may make at once.
        body: Bytes of a request, in general.
        results: Bytes of a report, which may carry files.
        upload: Bytes of an uploaded file of results.
        wait: Seconds that a long poll waits at most.
        poll: Seconds between looks into the database for news.
        pages: Whether the pages of the dashboard are served too, where they are installed.
    """

    rate: float = 500.0
    burst: int = 2000
    body: int = 1 << 20
    results: int = 32 << 20
    upload: int = 64 << 20
    wait: float = 30.0
    poll: float = 0.25
    pages: bool = True
