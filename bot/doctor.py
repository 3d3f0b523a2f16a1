"""Checks every part of the chain, and says for each failure what to do."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import BotError
from bot.settings import Settings
from bot.store.engine import Store
from bot.store.errors import StoreError
from bot.wiring import open_channels, open_forges, open_redis, open_sandboxes
from integrations.errors import IntegrationError
from policies.errors import PolicyError
from policies.load import load_policy
from runner.errors import RunnerError

MIN_REDIS = (6, 2)
MIN_FREE_BYTES = 5 * 10**9


class Finding(BaseModel):
    """What was found of one part of the installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    ok: bool
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Every part, in the order in which a request passes through them."""
    parts: list[tuple[str, Callable[[Settings], Awaitable[list[str]]], str]] = [
        (
            "policy",
            _policy,
            f"{settings.policy_file or 'the packaged default: everything is refused'}",
        ),
        ("database", _database, settings.database.split("@")[-1]),
        (
            "redis",
            _redis,
            "answers, keeps what it is told" if settings.redis_url else "embedded, answers",
        ),
        ("docker", _docker, "answers; images are there"),
        ("disk", _disk, "room enough"),
    ]
    findings = [await _look(name, check(settings), good) for name, check, good in parts]
    return findings + await _outside(settings)


async def _look(part: str, check: Awaitable[list[str]], good: str) -> Finding:
    try:
        problems = await check
    except (BotError, PolicyError, StoreError, RunnerError, IntegrationError) as error:
        problems = [str(error)]
    return Finding(part=part, ok=not problems, text="; ".join(problems) or good)


async def _policy(settings: Settings) -> list[str]:
    policy = load_policy(settings.policy_file)
    if settings.policy_file is None:
        return ["no policy: copy policies/default.yml, say who may do what, set ERRAND_POLICY_FILE"]
    return [] if policy.rules else ["the policy has no rules, so everything is refused: add one"]


async def _database(settings: Settings) -> list[str]:
    store = Store(settings.database)
    try:
        revision = await store.revision()
    finally:
        await store.close()
    if revision == store.head():
        return []
    return [
        f"its schema is at {revision or 'nothing'}, this version needs {store.head()}: run `errand db upgrade`"
    ]


async def _redis(settings: Settings) -> list[str]:
    async with open_redis(settings) as url, Redis.from_url(url) as redis:
        try:
            info = await redis.info()
            kept = await redis.config_get("maxmemory-policy", "appendonly")
        except (RedisError, OSError) as error:
            return [f"it does not answer ({error}): start it, or mend ERRAND_REDIS_URL"]
    problems = []
    version = str(info["redis_version"])
    if tuple(int(n) for n in version.split(".")[:2]) < MIN_REDIS:
        problems.append(f"version {version} is too old: 6.2 or newer is needed")
    if kept.get("maxmemory-policy") != "noeviction":
        problems.append("maxmemory-policy must be noeviction: it may drop queued work as it is")
    if kept.get("appendonly") != "yes":
        problems.append(
            "appendonly is off: a restart of Redis would delay running tasks; set it to yes"
        )
    return problems


async def _docker(settings: Settings) -> list[str]:
    return await open_sandboxes(settings).check()


async def _disk(settings: Settings) -> list[str]:
    place = settings.data_dir if settings.data_dir.exists() else Path()
    free = shutil.disk_usage(place).free
    if free >= MIN_FREE_BYTES:
        return []
    return [
        f"only {free / 10**9:.1f} GB are free at {place.resolve()}: make room, or set ERRAND_DATA_DIR"
    ]


async def _outside(settings: Settings) -> list[Finding]:
    findings = [
        Finding(part=name, ok=True, text=f"off: set {hint} to turn it on")
        for name, configured, hint in (
            ("slack", settings.slack, "ERRAND_SLACK__BOT_TOKEN"),
            ("github", settings.github, "ERRAND_GITHUB__TOKEN"),
        )
        if configured is None
    ]
    for name, service in (open_channels(settings) | open_forges(settings)).items():
        findings.append(await _look(name, service.check(), "on, and its token works"))
        await service.close()
    return findings
