"""What the service keeps: leases, keys, answers, jobs, and values as they were reported.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)
STATUSES = "status IN ('candidate', 'running', 'completed', 'failed', 'infeasible', 'abandoned')"


def upgrade() -> None:
    """Give trials leases and observations their raw values; make the service's tables."""
    _trial()
    op.add_column(
        "campaign", sa.Column("stopped", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column(
        "campaign", sa.Column("state", sa.String(16), nullable=False, server_default="open")
    )
    op.add_column("campaign", sa.Column("engine_seen", TIME))
    op.add_column("campaign", sa.Column("engine_says", sa.Text))
    op.add_column("observation", sa.Column("raw_value", sa.Double))
    op.add_column("observation", sa.Column("raw_unit", sa.String(100)))
    op.add_column("observation", sa.Column("external_id", sa.String(200)))
    _tables()


def _trial() -> None:
    # SQLite changes a check by making the table anew; the store opens it for that without foreign
    # keys, and looks at them afterwards.
    with op.batch_alter_table("trial", recreate="auto") as trial:
        if op.get_bind().dialect.name == "postgresql":
            trial.drop_constraint(op.f("ck_trial_status_known"), type_="check")
        trial.create_check_constraint(op.f("ck_trial_status_known"), sa.text(STATUSES))
        trial.add_column(
            sa.Column("lease_token", sa.Integer, nullable=False, server_default=sa.text("0"))
        )
        trial.add_column(sa.Column("lease_worker", sa.String(200)))
        trial.add_column(sa.Column("lease_expires", TIME))
        trial.add_column(sa.Column("lease_seconds", sa.Double))
        trial.add_column(sa.Column("lost", sa.Integer, nullable=False, server_default=sa.text("0")))
        trial.add_column(sa.Column("lease_progress", sa.Double))
        trial.add_column(sa.Column("lease_note", sa.String(500)))
        trial.add_column(sa.Column("approved", sa.Boolean))
        trial.add_column(sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()))
        trial.add_column(sa.Column("realised", sa.JSON))
        trial.add_column(sa.Column("report", sa.JSON))
        trial.add_column(sa.Column("external_id", sa.String(200)))
        trial.add_column(sa.Column("rev", sa.Integer, nullable=False, server_default=sa.text("1")))
        trial.create_unique_constraint(
            op.f("uq_trial_campaign_id_external_id"), ["campaign_id", "external_id"]
        )
        trial.create_index(
            op.f("ix_trial_campaign_id_status_index"), ["campaign_id", "status", "index"]
        )


def _tables() -> None:
    op.create_table(
        "blob",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blob"),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("campaign_id", sa.Integer),
        sa.Column("created", TIME, nullable=False),
        sa.Column("expires", TIME),
        sa.Column("revoked", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_api_token"),
        _of_campaign("api_token"),
    )
    op.create_table(
        "idempotency",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("caller", sa.String(32), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency"),
        sa.UniqueConstraint("caller", "key", name="uq_idempotency_caller_key"),
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created"])
    op.create_table(
        "worker",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("capabilities", sa.JSON, nullable=False),
        sa.Column("last_seen", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_worker"),
        _of_campaign("worker"),
        sa.UniqueConstraint("campaign_id", "name", name="uq_worker_campaign_id_name"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("created", TIME, nullable=False),
        sa.Column("started", TIME),
        sa.Column("ended", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        _of_campaign("job"),
    )
    op.create_index("ix_job_campaign_id_status", "job", ["campaign_id", "status"])
    op.create_table(
        "view",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("rev", sa.Integer, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_view"),
        _of_campaign("view"),
        sa.UniqueConstraint("campaign_id", "name", name="uq_view_campaign_id_name"),
    )


def _of_campaign(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=f"fk_{table}_campaign_id")
