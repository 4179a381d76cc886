"""The first schema.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
APPEND_ONLY = ("observation", "event")


def upgrade() -> None:
    """Make every table, then the triggers that keep observations and events as written."""
    _tables()
    if op.get_bind().dialect.name == "postgresql":
        _postgresql_triggers()
    else:
        _sqlite_triggers()


def _tables() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("spec_text", sa.Text, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("spec_hash", sa.String(64), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_campaign"),
        sa.UniqueConstraint("name", name="uq_campaign_name"),
        sa.UniqueConstraint("token", name="uq_campaign_token"),
    )
    op.create_table(
        "generator_version",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("parent", sa.String(128)),
        sa.Column("card", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generator_version"),
        sa.UniqueConstraint("name", "version", name="uq_generator_version_name_version"),
    )
    op.create_table(
        "surrogate_fit",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("warm_start", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_surrogate_fit"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_surrogate_fit_campaign_id"
        ),
    )
    op.create_index("ix_surrogate_fit_campaign_id", "surrogate_fit", ["campaign_id"])
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("design", sa.JSON, nullable=False),
        sa.Column("provenance", sa.JSON, nullable=False),
        sa.Column("generator_version_id", sa.Integer),
        sa.Column("surrogate_fit_id", sa.Integer),
        sa.Column("failure", sa.Text),
        sa.Column("created", TIME, nullable=False),
        sa.Column("started", TIME),
        sa.Column("ended", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_trial"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name="fk_trial_campaign_id"),
        sa.ForeignKeyConstraint(
            ["generator_version_id"], ["generator_version.id"], name="fk_trial_generator_version_id"
        ),
        sa.ForeignKeyConstraint(
            ["surrogate_fit_id"], ["surrogate_fit.id"], name="fk_trial_surrogate_fit_id"
        ),
        sa.UniqueConstraint("campaign_id", "index", name="uq_trial_campaign_id_index"),
        sa.CheckConstraint(
            "status IN ('candidate', 'running', 'completed', 'failed', 'abandoned')",
            name=op.f("ck_trial_status_known"),
        ),
    )
    op.create_table(
        "observation",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("metric", sa.String(200), nullable=False),
        sa.Column("mean", sa.Double, nullable=False),
        sa.Column("sem", sa.Double),
        sa.Column("unit", sa.String(100), nullable=False),
        sa.Column("fidelity", sa.String(100)),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("supersedes_id", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_observation"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name="fk_observation_trial_id"),
        sa.ForeignKeyConstraint(
            ["supersedes_id"], ["observation.id"], name="fk_observation_supersedes_id"
        ),
        sa.UniqueConstraint("supersedes_id", name="uq_observation_supersedes_id"),
        sa.CheckConstraint("sem IS NULL OR sem >= 0", name=op.f("ck_observation_sem_not_negative")),
    )
    op.create_index("ix_observation_trial_id_metric", "observation", ["trial_id", "metric"])
    op.create_table(
        "artifact",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("path", sa.Text),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name="fk_artifact_trial_id"),
        sa.CheckConstraint(
            "(text IS NULL) <> (path IS NULL)", name=op.f("ck_artifact_text_or_path")
        ),
    )
    op.create_index("ix_artifact_trial_id", "artifact", ["trial_id"])
    op.create_table(
        "ingested_file",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ingested_file"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_ingested_file_campaign_id"
        ),
        sa.UniqueConstraint("campaign_id", "sha256", name="uq_ingested_file_campaign_id_sha256"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("campaign_id", sa.Integer, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name="fk_event_campaign_id"),
    )
    op.create_index("ix_event_campaign_id", "event", ["campaign_id"])


def _sqlite_triggers() -> None:
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} rows are never changed or deleted'); END"
            )
        # INSERT OR REPLACE deletes the old row without asking a DELETE trigger
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) "
            f"BEGIN SELECT RAISE(ABORT, '{table} rows are never changed or deleted'); END"
        )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION matloop_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION matloop_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION matloop_append_only()"
        )
