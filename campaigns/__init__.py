"""What has been done: specs, the store, results taken in, and the campaign that ties them.

``from campaigns import Campaign`` is all a program needs. Importing this package loads nothing
heavy: the command line answers ``--help`` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campaigns._version import __version__

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

__all__ = ["Campaign", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Campaign":
        from campaigns.campaign import Campaign

        return Campaign
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
