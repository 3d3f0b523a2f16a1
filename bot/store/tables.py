"""The tables. Migrations make them; a contract test compares the two."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    literal_column,
)

from bot.store.columns import ConversationText, JsonText, StateText, UtcTime, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Counter = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column of exactly this type."""

NEW: ColumnElement[str] = literal_column("'new'")
RAW: ColumnElement[str] = literal_column("'raw'")
PENDING: ColumnElement[str] = literal_column("'pending'")
SENDING: ColumnElement[str] = literal_column("'sending'")
DEAD: ColumnElement[str] = literal_column("'dead'")
"""Spelt out in the statement, because a bound value would not match a partial index."""


def _partial(
    name: str, *columns: ColumnElement[Any], where: ColumnElement[bool], unique: bool = False
) -> None:
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


inbox = Table(
    "inbox",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("source", Words, nullable=False),
    Column("event_id", Words, nullable=False),
    Column("semantic_key", Words, nullable=False),
    Column("inbound", JsonText, nullable=False),
    Column("state", Words, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Words, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    UniqueConstraint("source", "event_id"),
    UniqueConstraint("source", "semantic_key"),
)
_partial("ix_inbox_new", inbox.c.id, where=inbox.c.state == NEW)
_partial("ix_inbox_dead", inbox.c.id, where=inbox.c.state == DEAD)
_partial("ix_inbox_raw", inbox.c.id, where=inbox.c.state == RAW)

task = Table(
    "task",
    metadata,
    Column("id", Words, primary_key=True),
    Column("origin", Words, nullable=False, unique=True),
    Column("conversation", ConversationText, nullable=False),
    Column("message_id", Words, nullable=False),
    Column("requester", Words, nullable=False),
    Column("requester_name", Words, nullable=False),
    Column("title", Words, nullable=False),
    Column("link", Words, nullable=False),
    Column("forge", Words, nullable=False),
    Column("repo", Words, nullable=False),
    Column("repo_reason", Words, nullable=False),
    Column("branch", Words, nullable=False),
    Column("prompt", Words, nullable=False),
    Column("context", Words, nullable=False),
    Column("guidance", Words, nullable=False),
    Column("page", Words, nullable=False),
    Column("item", Words, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("waits_for", JsonText, nullable=False),
    Column("grant", JsonText, nullable=False),
    Column("policy_hash", Words, nullable=False),
    Column("state", StateText, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("pull_url", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Index(None, "conversation", "created_at", "id"),
    Index(None, "created_at", "id"),
    Index(None, "state", "created_at", "id"),
    Index(None, "requester", "state"),
    Index(None, "repo", "state"),
    Index(None, "item", "created_at"),
)

follower = Table(
    "follower",
    metadata,
    Column("task", Words, ForeignKey("task.id"), nullable=False),
    Column("conversation", ConversationText, nullable=False),
    Column("since", UtcTime, nullable=False),
    PrimaryKeyConstraint("task", "conversation"),
    Index(None, "conversation"),
)
"""Conversations of ours about a task that was asked for elsewhere."""

run = Table(
    "run",
    metadata,
    Column("task", Words, ForeignKey("task.id"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("host", Words, nullable=False),
    Column("agent", Words, nullable=False),
    Column("image", Words, nullable=False),
    Column("image_digest", Words, nullable=False),
    Column("base_commit", Words, nullable=False),
    Column("policy_hash", Words, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("outcome", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("view", JsonText, nullable=False),
    PrimaryKeyConstraint("task", "fence"),
)

event = Table(
    "event",
    metadata,
    Column("task", Words, ForeignKey("task.id"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("source", Words, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Words, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event", JsonText, nullable=False),
    Column("stored_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("task", "fence", "source", "seq"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("ordinal", Counter, primary_key=True),
    Column("id", Words, nullable=False, unique=True),
    Column("task", Words, nullable=False),
    Column("conversation", ConversationText, nullable=False),
    Column("kind", Words, nullable=False),
    Column("seq", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("payload", JsonText, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("state", Words, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcTime, nullable=False),
    Column("claim_until", UtcTime),
    Column("first_claim_at", UtcTime),
    Column("remote_id", Words, nullable=False),
    Column("sent_version", Integer, nullable=False),
    Column("error", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("task", "kind", "seq"),
)
_partial(
    "ix_outbox_pending",
    *(outbox.c.rank, outbox.c.created_at, outbox.c.ordinal),
    where=outbox.c.state == PENDING,
)
_partial(
    "ix_outbox_pending_conversation",
    *(outbox.c.conversation, outbox.c.rank, outbox.c.created_at, outbox.c.ordinal),
    where=outbox.c.state == PENDING,
)
_partial("ix_outbox_dead", outbox.c.ordinal, where=outbox.c.state == DEAD)
_partial("uq_outbox_sending", outbox.c.conversation, where=outbox.c.state == SENDING, unique=True)

command = Table(
    "command",
    metadata,
    Column("ordinal", Counter, primary_key=True),
    Column("id", Words, nullable=False, unique=True),
    Column("task", Words, ForeignKey("task.id"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("kind", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("author", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Index(None, "task", "state"),
)

cursor = Table(
    "cursor",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
)

approval = Table(
    "approval",
    metadata,
    Column("id", Words, primary_key=True),
    Column("repo", Words, nullable=False),
    Column("task", Words, nullable=False),
    Column("host", Words, nullable=False),
    Column("ports", JsonText, nullable=False),
    Column("methods", JsonText),
    Column("verdict", Words, nullable=False),
    Column("by", Words, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Index(None, "repo", "task"),
)
"""Hosts that people opened, or kept closed; `task` is empty where it holds for the whole repository."""

secret = Table(
    "secret",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)
"""What adapters keep, encrypted by `bot.vault`."""

audit = Table(
    "audit",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=False),
    Column("at", Words, nullable=False),
    Column("actor", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("task", Words, nullable=False),
    Column("decision", Words, nullable=False),
    Column("policy_hash", Words, nullable=False),
    Column("detail", Words, nullable=False),
    Column("previous", Words, nullable=False, unique=True),
    Column("hash", Words, nullable=False),
    Index(None, "task", "id"),
)
"""Texts only: the hash covers what is stored, letter by letter. Triggers refuse UPDATE, and DELETE but for what a
checkpoint stands for."""

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("upto", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Words, nullable=False),
    Column("at", Words, nullable=False),
    Column("file", Words, nullable=False),
    Column("sha256", Words, nullable=False),
)
"""Where the record was cut off: the last row of what was moved into a file, its hash, and the file's. Triggers refuse
UPDATE, DELETE, and a checkpoint that is none of the record's rows."""
