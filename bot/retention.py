"""What is older than it is kept goes: once an hour, in transactions that nobody has to wait for."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from bot import auditfiles, pictures
from bot.handin import PICTURES
from bot.intake import utc_now
from bot.metrics import Metrics
from bot.settings import RetentionSettings
from bot.states import LIVE, TERMINAL
from bot.store import audit, events, inbox, tasks
from bot.store.audit import Checkpoint
from bot.store.engine import Store
from bot.store.errors import StoreError

log = structlog.get_logger()

SECONDS = 3600.0
ROWS = 500
"""In one transaction."""
AUDIT_ROWS = 10_000
"""In one file."""
PAUSE_SECONDS = 0.05
"""Between two transactions, for whoever waits for a turn."""


@dataclass(slots=True, kw_only=True)
class Retention:
    """Prunes. Each step may be interrupted anywhere: the next hour goes on."""

    store: Store
    settings: RetentionSettings
    data_dir: Path
    now: Callable[[], datetime] = utc_now
    metrics: Metrics = field(default_factory=Metrics)
    pause_seconds: float = PAUSE_SECONDS

    async def run(self) -> None:
        """Prune every hour until cancelled."""
        while True:
            try:
                await self.step()
            except (StoreError, OSError) as error:
                log.warning("retention_failed", error=repr(error))
            await asyncio.sleep(SECONDS)

    async def step(self) -> dict[str, int]:
        """Prune once; how much of what went."""
        kept, gone = self.settings, {}
        for what, days, prune in (
            ("events", kept.events_days, self._events),
            ("deliveries", kept.inbox_days, self._inbox),
            ("transcripts", kept.transcripts_days, self._transcripts),
            ("bundles", kept.bundles_days, self._bundles),
            ("audit", kept.audit_days, self._audit),
        ):
            if days:
                gone[what] = await prune(self.now() - timedelta(days=days))
                self.metrics.pruned.labels(what).inc(gone[what])
        if any(gone.values()):
            log.info("pruned", **gone)
        return gone

    async def _events(self, before: datetime) -> int:
        """Events of tasks that ended before; ids of tasks begin with the time, so younger ones end the search."""
        gone, task_id = 0, ""
        while True:
            async with self.store.read() as conn:
                found = await events.first_task(conn, after=task_id)
                task = await tasks.get(conn, found) if found else None
            if task is None or task.created_at >= before:
                return gone
            task_id = task.id
            if task.state in TERMINAL and task.ended_at is not None and task.ended_at < before:
                gone += await self._events_of(task_id)

    async def _events_of(self, task_id: str) -> int:
        gone = 0
        while True:
            async with self.store.begin() as tx:
                task = await tasks.get(tx, task_id)
                ended = task is not None and task.state in TERMINAL
                some = await events.prune(tx, task_id, limit=ROWS) if ended else 0
            gone += some
            if some < ROWS:
                return gone
            await asyncio.sleep(self.pause_seconds)

    async def _inbox(self, before: datetime) -> int:
        gone, after = 0, 0
        while True:
            async with self.store.begin() as tx:
                some, goes_on = await inbox.prune(tx, before=before, after=after, limit=ROWS)
            gone += some
            if goes_on is None:
                return gone
            after = goes_on
            await asyncio.sleep(self.pause_seconds)

    async def _transcripts(self, before: datetime) -> int:
        """And the pictures that runs were given."""
        async with self.store.read() as conn:
            live = await tasks.ids_in_states(conn, LIVE)
            shown = await pictures.names_of(conn, live)
        gone = await self._files("transcripts", before, needed=live)
        return gone + await self._files(PICTURES, before, needed=shown)

    async def _bundles(self, before: datetime) -> int:
        async with self.store.read() as conn:
            live = await tasks.ids_in_states(conn, LIVE)
        return await self._files("bundles", before, needed=live)

    async def _files(self, folder: str, before: datetime, *, needed: Collection[str]) -> int:
        return await asyncio.to_thread(_unlink_older, self.data_dir / folder, before, needed)

    async def _audit(self, before: datetime) -> int:
        """Into a file, then a checkpoint, then away: the chain goes on from the checkpoint."""
        while await self._cut_audit(before):
            pass
        gone = 0
        while True:
            async with self.store.begin() as tx:
                some = await audit.prune(tx, limit=ROWS)
            gone += some
            if some < ROWS:
                return gone
            await asyncio.sleep(self.pause_seconds)

    async def _cut_audit(self, before: datetime) -> bool:
        """True if there is more."""
        async with self.store.read() as conn:
            start = await audit.checkpoint(conn)
            rows = await audit.oldest(conn, before=before, limit=AUDIT_ROWS)
        if not rows:
            return False
        if reason := audit.broken(rows, after=start):
            log.error("audit_broken", reason=reason, hint="errand audit verify")
            return False
        name = f"audit-{rows[0]['id']}-{rows[-1]['id']}.jsonl.gz"
        digest = await asyncio.to_thread(
            auditfiles.write, self.data_dir / auditfiles.FOLDER / name, rows
        )
        point = Checkpoint(
            upto=rows[-1]["id"],
            hash=rows[-1]["hash"],
            at=self.now().isoformat(),
            file=name,
            sha256=digest,
        )
        async with self.store.begin() as tx:
            await audit.cut(tx, point)
        log.info("audit_cut", upto=point.upto, file=name)
        return len(rows) == AUDIT_ROWS


def _unlink_older(folder: Path, before: datetime, needed: Collection[str]) -> int:
    """`needed`: whose files stay, however old they are."""
    gone = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        old = path.is_file() and path.stat().st_mtime < before.timestamp()
        if old and _whose(path) not in needed:
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def _whose(path: Path) -> str:
    """The task, of a file that is named after a run; else the file's own name, as with pictures."""
    task, _, rest = path.name.rpartition("-")
    return task or rest
