"""Indexes for what operators ask all the time, and an audit record that may be cut off at a checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None

CUT_OFF = "SELECT coalesce(max(upto), 0) FROM audit_checkpoint"

SQLITE = [
    "DROP TRIGGER audit_no_delete",
    f"""
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN OLD.id > ({CUT_OFF})
    BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END
    """,
    *(
        f"""
        CREATE TRIGGER audit_checkpoint_{name} {when}
        BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END
        """
        for name, when in {
            "no_update": "BEFORE UPDATE ON audit_checkpoint",
            "no_delete": "BEFORE DELETE ON audit_checkpoint",
            "no_replace": "BEFORE INSERT ON audit_checkpoint WHEN EXISTS"
            " (SELECT 1 FROM audit_checkpoint WHERE upto >= NEW.upto)",
        }.items()
    ),
    """
    CREATE TRIGGER audit_checkpoint_true BEFORE INSERT ON audit_checkpoint WHEN NOT EXISTS
    (SELECT 1 FROM audit WHERE id = NEW.upto AND hash = NEW.hash)
    BEGIN SELECT RAISE(ABORT, 'a checkpoint is a row of the audit record'); END
    """,
]

POSTGRESQL = [
    f"""
    CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN
      IF TG_OP = 'DELETE' THEN
        IF OLD.id <= ({CUT_OFF}) THEN RETURN OLD; END IF;
      END IF;
      RAISE EXCEPTION 'audit is append-only';
    END $$
    """,
    """
    CREATE FUNCTION audit_checkpoint_append_only() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'audit_checkpoint is append-only'; END $$
    """,
    """
    CREATE FUNCTION audit_checkpoint_true() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN
      IF EXISTS (SELECT 1 FROM audit_checkpoint WHERE upto >= NEW.upto)
      OR NOT EXISTS (SELECT 1 FROM audit WHERE id = NEW.upto AND hash = NEW.hash) THEN
        RAISE EXCEPTION 'a checkpoint is a row of the audit record';
      END IF;
      RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER audit_checkpoint_no_change BEFORE UPDATE OR DELETE ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit_checkpoint_append_only()
    """,
    """
    CREATE TRIGGER audit_checkpoint_no_truncate BEFORE TRUNCATE ON audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit_checkpoint_append_only()
    """,
    """
    CREATE TRIGGER audit_checkpoint_true BEFORE INSERT ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit_checkpoint_true()
    """,
]


def upgrade() -> None:
    for table, column in (("inbox", "id"), ("outbox", "ordinal")):
        op.create_index(
            f"ix_{table}_dead",
            table,
            [column],
            sqlite_where=sa.text("state = 'dead'"),
            postgresql_where=sa.text("state = 'dead'"),
        )
    op.create_table(
        "audit_checkpoint",
        sa.Column("upto", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("upto", name="pk_audit_checkpoint"),
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE if sqlite else POSTGRESQL:
        op.execute(statement)
