"""The composition root of `serve`: settings become services, and what was opened is closed here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from rich.console import Console

from bot.account import Dealt
from bot.alone import alone
from bot.apply import Applier
from bot.bus import Bus
from bot.desk import Desk
from bot.dispatch import Dispatcher
from bot.handin import HandIns
from bot.health import Health, Pulse
from bot.intake import Intake, Signal
from bot.metrics import Metrics
from bot.outbox import Outbox
from bot.publish import Publisher
from bot.retention import Retention
from bot.settings import Settings, worker_token
from bot.standing import Standing
from bot.store.engine import Store
from bot.tracing import open_tracing
from bot.web import create_app, serve_http
from bot.worker_api import WorkerApi
from integrations.channel import Channel
from integrations.console.channel import ConsoleChannel
from integrations.forge import Forge
from integrations.github.forge import GitHubForge
from integrations.localforge.forge import LocalForge
from integrations.slack.channel import SlackChannel
from policies.load import load_policy
from policies.model import Policy
from runner.tracing import Tracing

log = structlog.get_logger()

RESTART_SECONDS = 1.0
Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What `errand serve` is made of."""

    settings: Settings
    policy: Policy
    store: Store
    bus: Bus
    channels: dict[str, Channel]
    forges: dict[str, Forge]
    intake: Intake
    outbox: Outbox
    app: FastAPI
    pulse: Pulse
    loops: Mapping[str, Loop]

    async def run(self) -> None:
        """All loops and the HTTP server, until HTTP fails or all are cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, loop in self.loops.items():
                self.pulse.began(name)
                group.create_task(_keep_going(name, loop, self.pulse))
            for name, channel in self.channels.items():
                listen = partial(channel.listen, self.intake.receive)
                group.create_task(_keep_going(name, listen, self.pulse))
            group.create_task(serve_http(self.app, self.settings.http))


async def _keep_going(name: str, loop: Loop, pulse: Pulse) -> None:
    """Begin a loop again when it fails: a fault in one of them must not silence the others."""
    while True:
        try:
            await loop()
        except Exception:  # whatever it was: it is in the log, and the rows are still there
            log.exception("loop_failed", loop=name)
            pulse.failed(name)
            await asyncio.sleep(RESTART_SECONDS)
        else:
            return


def open_channels(settings: Settings) -> dict[str, Channel]:
    channels: dict[str, Channel] = {}
    if settings.slack is not None:
        channels["slack"] = SlackChannel(settings.slack)
    else:
        log.info("channel_off", channel="slack", hint="set ERRAND_SLACK__BOT_TOKEN to turn it on")
    return channels


def open_forges(settings: Settings) -> dict[str, Forge]:
    forges: dict[str, Forge] = {
        "local": LocalForge(root=settings.data_dir / "forge", base_url=settings.public_url)
    }
    if settings.github is not None:
        forges["github"] = GitHubForge(settings.github)
    else:
        log.info("forge_off", forge="github", hint="set ERRAND_GITHUB__TOKEN to turn it on")
    return forges


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What must be closed, and what all parts share."""

    settings: Settings
    policy: Policy
    store: Store
    bus: Bus
    channels: dict[str, Channel]
    forges: dict[str, Forge]
    metrics: Metrics
    tracing: Tracing
    alone: bool
    """No other `serve` uses the store."""


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    redis_url: str,
    more_channels: Sequence[Channel] = (),
    metrics: Metrics | None = None,
) -> AsyncIterator[Services]:
    """Open everything that `serve` needs; the database is brought up to date."""
    async with AsyncExitStack() as stack:
        policy = load_policy(settings.policy_file)
        log.info("policy_loaded", hash=policy.hash, file=str(settings.policy_file or "default"))
        tracing = await stack.enter_async_context(
            open_tracing(settings.otel, service="errand-serve")
        )
        store = Store(settings.database)
        stack.push_async_callback(store.close)
        only_one = stack.enter_context(alone(store.file))
        await store.upgrade()
        bus = await Bus.open(redis_url)
        stack.push_async_callback(bus.close)
        channels = open_channels(settings) | {c.name: c for c in more_channels}
        forges = open_forges(settings)
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        for forge in forges.values():
            stack.push_async_callback(forge.close)
        yield _assemble(
            _Opened(
                settings=settings,
                policy=policy,
                store=store,
                bus=bus,
                channels=channels,
                forges=forges,
                metrics=metrics or Metrics(),
                tracing=tracing,
                alone=only_one,
            )
        )


def _assemble(o: _Opened) -> Services:
    arrived, queued, commanded, finished, spoken = (Signal() for _ in range(5))
    standing = Standing(store=o.store)
    handed_in = HandIns(o.settings.data_dir)
    outbox = Outbox(
        store=o.store, channels=o.channels, spoken=spoken, standing=standing, alone=o.alone,
        metrics=o.metrics, tracing=o.tracing,
    )  # fmt: skip
    intake = Intake(store=o.store, arrived=arrived)
    desk = Desk(
        store=o.store, policy=o.policy, arrived=arrived, queued=queued, spoken=spoken,
        commanded=commanded, dealt=Dealt(metrics=o.metrics, tracing=o.tracing),
    )  # fmt: skip
    dispatcher = Dispatcher(
        store=o.store, bus=o.bus, policy=o.policy, channels=o.channels, queued=queued,
        spoken=spoken, commanded=commanded, metrics=o.metrics, tracing=o.tracing,
    )  # fmt: skip
    applier = Applier(
        store=o.store, bus=o.bus, spoken=spoken, finished=finished, queued=queued,
        metrics=o.metrics,
    )  # fmt: skip
    publisher = Publisher(
        store=o.store, forges=o.forges, handed_in=handed_in, root=o.settings.data_dir / "publish",
        finished=finished, spoken=spoken, standing=standing, metrics=o.metrics, tracing=o.tracing,
    )  # fmt: skip
    retention = Retention(
        store=o.store,
        settings=o.settings.retention,
        data_dir=o.settings.data_dir,
        metrics=o.metrics,
    )
    pulse = Pulse(metrics=o.metrics)
    return Services(
        settings=o.settings,
        policy=o.policy,
        store=o.store,
        bus=o.bus,
        channels=o.channels,
        forges=o.forges,
        intake=intake,
        outbox=outbox,
        app=_app(o, intake=intake, handed_in=handed_in, pulse=pulse),
        pulse=pulse,
        loops={
            "desk": desk.run,
            "dispatch": dispatcher.run,
            "commands": dispatcher.run_commands,
            "apply": applier.run,
            "publish": publisher.run,
            "outbox": outbox.run,
            "retention": retention.run,
        },
    )


def _app(o: _Opened, *, intake: Intake, handed_in: HandIns, pulse: Pulse) -> FastAPI:
    workers = WorkerApi(
        store=o.store,
        forges=o.forges,
        handed_in=handed_in,
        token=worker_token(o.settings),
        installation=o.settings.installation,
    )
    health = Health(
        store=o.store,
        bus=o.bus,
        metrics=o.metrics,
        pulse=pulse,
        destinations=(*o.channels, *o.forges),
    )
    routers = [channel.routes(intake.receive) for channel in o.channels.values()]
    routers += [forge.routes() for forge in o.forges.values()]
    own = [workers.routes(), health.routes()]
    return create_app([*(r for r in routers if r is not None), *own])


def open_console(lines: AsyncIterator[str] | None) -> ConsoleChannel:
    """The terminal as a channel, for the demo."""
    return ConsoleChannel(out=Console(highlight=False), user="you", lines=lines)


async def open_local_repo(settings: Settings, *, repo: str, files: Mapping[str, str]) -> None:
    """A repository in the local forge; left alone if it is there."""
    forge = LocalForge(settings.data_dir / "forge", settings.public_url)
    try:
        await forge.create_repo(repo, files)
    finally:
        await forge.close()
