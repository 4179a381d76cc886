"""What anybody may look at of a server's campaigns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from campaigns.client_connection import TIMEOUT, Connection


class Onlooker(Connection):
    """A connection that looks, and changes nothing."""

    def health(self) -> dict[str, Any]:
        """Whether the server is there, and its version."""
        return self._get("/v1/health")

    def campaigns(self) -> list[dict[str, Any]]:
        """The server's campaigns."""
        return _items(self._get("/v1/campaigns"), "campaigns")

    def create(self, spec: str) -> dict[str, Any]:
        """Begin a campaign.

        Args:
            spec: The text of its spec, YAML.

        Raises:
            Refused: With the lines that are wrong.
        """
        return self._post("/v1/campaigns", {"spec": spec})

    def status(self, campaign: str) -> dict[str, Any]:
        """How a campaign stands."""
        return self._get(path_of(campaign))

    def spec(self, campaign: str) -> str:
        """A campaign's spec, as YAML."""
        return self._text(path_of(campaign, "spec"))

    def units(self, campaign: str) -> dict[str, str]:
        """The campaign's metrics and their units; asked once."""
        if campaign not in self._units:
            self._units[campaign] = dict(self.status(campaign)["metrics"])
        return self._units[campaign]

    def trials(self, campaign: str, status: str | None = None) -> Iterator[dict[str, Any]]:
        """A campaign's trials in the order of their numbers, page by page.

        Args:
            campaign: Its name.
            status: Only those with this status.
        """
        after: int | None = None
        while True:
            asked = {"status": status, "after": after}
            params = {k: v for k, v in asked.items() if v is not None}
            page = _items(self._get(path_of(campaign, "trials"), params), "trials")
            yield from page
            if not page or page[-1]["trial"] == after:
                return
            after = page[-1]["trial"]

    def trial(self, campaign: str, trial: int) -> dict[str, Any]:
        """All that is known of a trial."""
        return self._get(path_of(campaign, "trials", str(trial)))

    def observations(self, campaign: str, after: int | None = None) -> list[dict[str, Any]]:
        """What was measured, after the observation of this number."""
        params = {} if after is None else {"after": after}
        return _items(self._get(path_of(campaign, "observations"), params), "observations")

    def events(
        self, campaign: str, after: int | None = None, wait: float = 0.0
    ) -> list[dict[str, Any]]:
        """What happened after the event of this number.

        Args:
            campaign: Its name.
            after: The last event that is known already.
            wait: Seconds to wait for one where there is none yet.
        """
        params: dict[str, Any] = {} if after is None else {"after": after}
        if wait:
            params["wait"] = wait
        found = self._get(path_of(campaign, "events"), params, timeout=TIMEOUT + wait)
        return _items(found, "events")

    @cached_property
    def _units(self) -> dict[str, dict[str, str]]:
        return {}


def path_of(campaign: str, *parts: str) -> str:
    """The path of something of a campaign.

    A name may hold nothing that is special in a path; one that does must not lead elsewhere.
    """
    return "/".join(["/v1/campaigns", *(quote(part, safe="") for part in (campaign, *parts))])


def _items(told: Any, name: str) -> list[dict[str, Any]]:
    return list(told[name] if isinstance(told, Mapping) else told)
