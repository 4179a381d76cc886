"""Trials at a fidelity.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give trials a fidelity; those there are have none."""
    op.add_column("trial", sa.Column("fidelity", sa.String(100)))
