"""The campaign's only memory: one SQLite file, or one PostgreSQL database."""

from campaigns.store.store import Store, default_url

__all__ = ["Store", "default_url"]
