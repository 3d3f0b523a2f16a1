"""Tickets: what they say around a request, what they wait for, who else follows; and adapters' secrets."""

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("context", "guidance", "page", "item"):
        op.add_column("task", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("task", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("task", sa.Column("waits_for", sa.Text(), nullable=False, server_default="[]"))
    op.create_index("ix_task_item_created_at", "task", ["item", "created_at"])
    op.create_index(
        "ix_inbox_raw",
        "inbox",
        ["id"],
        sqlite_where=sa.text("state = 'raw'"),
        postgresql_where=sa.text("state = 'raw'"),
    )
    op.create_table(
        "follower",
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name="fk_follower_task_task"),
        sa.PrimaryKeyConstraint("task", "conversation", name="pk_follower"),
    )
    op.create_index("ix_follower_conversation", "follower", ["conversation"])
    op.create_table(
        "secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secret"),
    )
