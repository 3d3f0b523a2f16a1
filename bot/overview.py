"""What runs where, as one value: from SQL, and from Redis where it can be reached."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.bus import HostRow
from bot.settings import Settings
from bot.states import LIVE, TaskState
from bot.store import figures, runs, tasks
from bot.store.engine import Store
from bot.store.rows import RunRow, TaskRow
from bot.valkey import socket_in
from runner import keys

LIMIT = 200
REDIS_SECONDS = 2.0


class Entry(BaseModel):
    """One task that has not ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    state: TaskState
    repo: str
    asked_by: str
    title: str
    fence: int
    host: str
    agent: str
    since: datetime
    """When its run began, else when it came into its state."""
    doing: str
    cost_usd: float | None


class Overview(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    tasks: tuple[Entry, ...]
    """The newest first; no more than some hundreds."""
    queued: int
    inbox: int
    outbox: int
    dead: int
    stopped: tuple[str, ...]
    """Destinations that refuse our credential."""
    hosts: tuple[HostRow, ...] | None
    """None: Redis can't be reached from here."""


async def look(store: Store, settings: Settings, *, now: datetime) -> Overview:
    async with store.read() as conn:
        found = await figures.look(conn)
        live = await tasks.listing(conn, states=LIVE, limit=LIMIT)
        entries = [entry(task, await runs.newest(conn, task)) for task in live]
    return Overview(
        at=now,
        tasks=tuple(entries),
        queued=found.tasks[TaskState.QUEUED],
        inbox=found.inbox_new,
        outbox=found.outbox_pending,
        dead=found.outbox_dead + found.inbox_dead,
        stopped=tuple(sorted(found.stopped)),
        hosts=await hosts_of(settings),
    )


def entry(task: TaskRow, run: RunRow | None) -> Entry:
    current = run if run is not None and run.round == task.round else None
    view = current.view if current else {}
    return Entry(
        task=task.id,
        state=task.state,
        repo=task.repo,
        asked_by=task.requester_name,
        title=task.title,
        fence=task.fence,
        host=current.host if current else "",
        agent=current.agent if current else "",
        since=(current.started_at if current else None) or task.changed_at,
        doing=str(view.get("doing") or ""),
        cost_usd=view.get("cost_usd"),
    )


async def hosts_of(settings: Settings) -> tuple[HostRow, ...] | None:
    """Hosts that live. An embedded Redis is asked if it is there, and not started."""
    socket = socket_in(settings.data_dir / "valkey")
    if not settings.redis_url and not socket.exists():
        return None
    url = settings.redis_url or f"unix://{socket}"
    try:
        async with Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        ) as redis:
            names = [name async for name in redis.scan_iter(match=keys.host("*"))]
            said: Sequence[bytes | None] = await redis.mget(names) if names else []
    except (RedisError, OSError):
        return None
    hosts = [HostRow.model_validate_json(text) for text in said if text]
    return tuple(sorted(hosts, key=lambda host: host.host))
