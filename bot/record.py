"""The audit record: one call wherever something was decided or done."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import audit
from bot.store.rows import AuditEntry

OPERATOR = "cli:operator"
"""The actor of what is done on the command line."""


async def record(
    tx: AsyncConnection,
    *,
    now: datetime,
    actor: str,
    action: str,
    task: str = "",
    decision: str = "",
    policy_hash: str = "",
    **detail: Any,
) -> None:
    """Append one line, in the transaction of what it tells."""
    await audit.append(
        tx,
        AuditEntry(
            at=now,
            actor=actor,
            action=action,
            task=task,
            decision=decision,
            policy_hash=policy_hash,
            detail=detail,
        ),
    )
