"""Checks every part of the chain, and says for each failure what to do."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.errors import BotError, NoRedisError
from bot.in_force import InForce
from bot.settings import Settings
from bot.standing import stopped_destinations
from bot.store.engine import Store
from bot.valkey import open_redis
from bot.wiring import open_channels, open_forges
from bot.workshop import open_sandboxes
from integrations.channel import Channel
from integrations.errors import IntegrationError
from integrations.forge import Forge
from policies.errors import PolicyError
from policies.load import load_policy
from policies.model import Policy
from runner.docker.backend import DockerBackend
from runner.errors import RunnerError
from runner.identity import known_host_name
from runner.keys import safe_url
from runner.lease import Leases
from runner.orphans import without_host

Part = Literal["up", "serve", "work"]
Check = Callable[[Settings], Awaitable[list[str]]]

MIN_REDIS = (6, 2)
MIN_FREE_BYTES = 5 * 10**9
SERVE_SECONDS = 10
REDIS_SECONDS = 5


class Finding(BaseModel):
    """What was found of one part of the installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    ok: bool
    text: str


async def examine(settings: Settings, *, part: Part = "up") -> list[Finding]:
    """Every part, in the order in which a request passes through them."""
    policy = settings.policy_file or "the packaged default"
    database = settings.database.rpartition("@")[2]
    redis = safe_url(settings.redis_url) if settings.redis_url else "embedded"
    checks: dict[str, tuple[Sequence[Part], Check, str]] = {
        "policy": (("up", "serve"), _policy, f"{policy} can be used"),
        "database": (("up", "serve"), _database, f"{database} is as this version needs it"),
        "destinations": (("up", "serve"), _destinations, "none is known to stand still"),
        "redis": (("up", "serve", "work"), _redis, f"{redis}, answers, keeps what it is told"),
        "docker": (("up", "work"), _docker, "answers, has the image, limits what it must"),
        "serve": (("work",), _serve, f"answers at {settings.serve_url}"),
        "disk": (("up", "serve", "work"), _disk, "has room enough"),
    }
    wanted = [(n, check, good) for n, (parts, check, good) in checks.items() if part in parts]
    findings = [await _look(name, check(settings), good) for name, check, good in wanted]
    if part != "serve":
        findings += await _hardening(settings)
    return findings if part == "work" else findings + await _outside(settings)


async def _look(part: str, check: Awaitable[list[str]], good: str) -> Finding:
    try:
        problems = await check
    except (BotError, PolicyError, RunnerError, IntegrationError) as error:
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
        problem = await store.problem()
    finally:
        await store.close()
    return [problem] if problem else []


async def _destinations(settings: Settings) -> list[str]:
    store = Store(settings.database)
    try:
        if await store.problem():
            return []  # said already
        stopped = await stopped_destinations(store)
    finally:
        await store.close()
    return [
        f"{name} stands still since {note.since:%Y-%m-%d %H:%M} UTC, and what is to be said there waits"
        f" ({note.reason}): renew its credential, restart `errand serve`"
        for name, note in stopped.items()
    ]


async def _redis(settings: Settings) -> list[str]:
    try:
        async with open_redis(settings) as url, Redis.from_url(url) as redis:
            info = await redis.info()
            kept = await redis.config_get("maxmemory-policy", "appendonly")
    except (RedisError, OSError) as error:
        return [f"it does not answer as it should ({error}): mend it, or ERRAND_REDIS_URL"]
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
    with closing(open_sandboxes(settings)) as backend:
        if problems := await backend.check():
            return problems
        return await _aside(settings, backend) + await _without_host(settings, backend)


async def _aside(settings: Settings, backend: DockerBackend) -> list[str]:
    found = await backend.aside(installation=settings.installation)
    names = ", ".join(str(sandbox.run) for sandbox in found)
    why = "because the database does not know them, or they are not confined as they must be"
    hint = "`errand aside list` shows them, `errand aside remove RUN` ends them"
    return [f"set aside, {why}: {names}; {hint}"] if found else []


async def _without_host(settings: Settings, backend: DockerBackend) -> list[str]:
    """What this Docker host has of hosts that are not at work."""
    try:
        async with open_redis(settings) as url, Redis.from_url(url) as redis:
            leases = Leases(redis, host=known_host_name(settings.data_dir))
            async with asyncio.timeout(REDIS_SECONDS):
                found = await without_host(backend, leases, installation=settings.installation)
    except (NoRedisError, RedisError, OSError, TimeoutError):
        return []  # said already
    names = ", ".join(f"{sandbox.run} of {sandbox.host}" for sandbox in found)
    hint = "start it again with its data directory, or see the runbook"
    return [f"their `errand work` is not there: {names}; {hint}"] if found else []


async def _hardening(settings: Settings) -> list[Finding]:
    """Advice: nothing of it stops the work. Nothing, if Docker does not answer, which is said already."""
    with closing(open_sandboxes(settings)) as backend:
        try:
            found = await backend.remarks()
        except RunnerError:
            return []
    return [Finding(part="hardening", ok=True, text="; ".join(found) or "as hard as we know how")]


async def _serve(settings: Settings) -> list[str]:
    try:
        async with httpx.AsyncClient(timeout=SERVE_SECONDS) as client:
            answer = await client.get(f"{settings.serve_url}/healthz")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        return [f"{settings.serve_url} does not answer ({reason}): set ERRAND_WORK__SERVE_URL"]
    problems = []
    if not answer.is_success:
        problems.append(
            f"{settings.serve_url} answers {answer.status_code}: is that `errand serve`?"
        )
    if settings.work.token is None and settings.work.serve_url:
        problems.append("no ERRAND_WORK__TOKEN: give `serve` and `work` the same")
    return problems


async def _disk(settings: Settings) -> list[str]:
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free >= MIN_FREE_BYTES:
        return []
    return [f"only {free / 10**9:.1f} GB are free at {place}: make room, or set ERRAND_DATA_DIR"]


async def _outside(settings: Settings) -> list[Finding]:
    findings = [
        Finding(part=name, ok=True, text=f"off: set {hint} to turn it on")
        for name, configured, hint in (
            ("slack", settings.slack, "ERRAND_SLACK__BOT_TOKEN"),
            ("linear", settings.linear, "ERRAND_LINEAR__CLIENT_ID"),
            ("github", settings.github, "ERRAND_GITHUB__TOKEN"),
        )
        if configured is None
    ]
    store = Store(settings.database)
    services: dict[str, Channel | Forge] = {
        **open_channels(settings, store, InForce(Policy(version=1))),
        **open_forges(settings),
    }
    for name, service in services.items():
        good = "on" if name == "local" else "on, and it accepts our credentials"
        findings.append(await _look(name, service.check(), good))
        await service.close()
    await store.close()
    return findings
