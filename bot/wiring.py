"""The composition root of `serve`: settings become services, and what was opened is closed here.

Nothing here may need the worker's modules: they are a third of what there is to import, and the time after a kill.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI
from rich.console import Console

from bot.account import Dealt
from bot.alone import alone
from bot.apply import Applier
from bot.branches import Branches
from bot.broker import Broker
from bot.bus import Bus
from bot.clock import StoreClock
from bot.completion import Completer
from bot.desk import Desk
from bot.dispatch import Dispatcher
from bot.duty import Duty, Loop
from bot.front import HouseFront
from bot.handin import HandIns
from bot.health import Health, Pulse
from bot.in_force import InForce, PolicyFile
from bot.intake import Intake, Signal
from bot.metrics import Metrics
from bot.outbox import Outbox
from bot.pages import PageLinks, TaskPages
from bot.publish import Publisher
from bot.pulls import PullWatch
from bot.rate_limits import Buckets
from bot.retention import Retention
from bot.settings import Settings, vault_key, worker_token
from bot.standing import Standing
from bot.store.engine import Store
from bot.tracing import open_tracing
from bot.valkey import open_redis
from bot.vault import Vault
from bot.vigil import Vigil
from bot.web import create_app, serve_http
from bot.worker_api import WorkerApi
from integrations.channel import Channel
from integrations.console.channel import ConsoleChannel
from integrations.forge import Forge
from integrations.github.forge import GitHubForge
from integrations.github.reading import GitHubReading
from integrations.linear.channel import LinearChannel
from integrations.localforge.forge import LocalForge
from integrations.localforge.reading import LocalReading
from integrations.reading import Reading
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import ManyWorkspaces, OneWorkspace
from integrations.tracker import Tracker
from policies.load import DEFAULT, load_policy
from runner.tracing import Tracing

log = structlog.get_logger()

RESTART_SECONDS = 1.0
PUBLISH = "publish"
"""The part of the data directory that holds serve's own copies of repositories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What `errand serve` is made of."""

    settings: Settings
    in_force: InForce
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


async def serve(settings: Settings) -> None:
    """HTTP, channels, dispatch, publication, replies; until cancelled."""
    async with (
        open_redis(settings) as redis_url,
        open_services(settings, redis_url=redis_url) as services,
    ):
        await services.run()


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


def open_channels(settings: Settings, store: Store, in_force: InForce) -> dict[str, Channel]:
    """`store`: where what they must remember is kept, encrypted, and what they show of tasks."""
    channels: dict[str, Channel] = {}
    if settings.slack is not None:
        channels["slack"] = open_slack(settings, settings.slack, store=store, in_force=in_force)
    else:
        log.info("channel_off", channel="slack", hint="set ERRAND_SLACK__BOT_TOKEN to turn it on")
    if (linear := open_linear(settings, store)) is not None:
        channels["linear"] = linear
    else:
        log.info("channel_off", channel="linear", hint="errand linear setup says how to turn it on")
    return channels


def open_slack(
    settings: Settings, config: SlackConfig, *, store: Store, in_force: InForce
) -> SlackChannel:
    notes = Vault(store, vault_key(settings))
    workspaces = ManyWorkspaces(config, notes) if config.many else OneWorkspace(SlackClient(config))
    front = HouseFront(store=store, in_force=in_force)
    tickets = settings.linear is not None
    return SlackChannel(
        config, front=front, workspaces=workspaces, notes=notes, tickets=tickets,
        pictures=HandIns(settings.data_dir),
    )  # fmt: skip


def open_linear(settings: Settings, store: Store) -> LinearChannel | None:
    if settings.linear is None:
        return None
    notes = Vault(store, vault_key(settings))
    return LinearChannel(settings.linear, notes=notes, public_url=settings.public_url)


def trackers_of(channels: Mapping[str, Channel]) -> dict[str, Tracker]:
    """Those channels that are a place for tickets besides."""
    return {name: found for name, found in channels.items() if isinstance(found, LinearChannel)}


def open_forges(settings: Settings) -> dict[str, Forge]:
    forges: dict[str, Forge] = {
        "local": LocalForge(root=settings.data_dir / "forge", base_url=settings.public_url)
    }
    if settings.github is not None:
        forges["github"] = GitHubForge(settings.github)
    else:
        log.info("forge_off", forge="github", hint="set ERRAND_GITHUB__TOKEN to turn it on")
    return forges


def open_readings(settings: Settings) -> dict[str, Reading]:
    """What can be read of each forge, for the broker."""
    readings: dict[str, Reading] = {
        "local": LocalReading(settings.data_dir / "forge", settings.public_url)
    }
    if settings.github is not None:
        readings["github"] = GitHubReading(settings.github)
    return readings


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
        in_force = InForce(load_policy(settings.policy_file))
        log.info(
            "policy_loaded", hash=in_force.policy.hash, file=str(settings.policy_file or "default")
        )
        tracing = await stack.enter_async_context(
            open_tracing(settings.otel, service="errand-serve")
        )
        store = Store(settings.database)
        stack.push_async_callback(store.close)
        only_one = stack.enter_context(alone(store.file))
        await store.upgrade()
        clock = StoreClock(store)
        await clock.look()
        bus = await Bus.open(redis_url)
        stack.push_async_callback(bus.close)
        channels = open_channels(settings, store, in_force) | {c.name: c for c in more_channels}
        forges = open_forges(settings)
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        for forge in forges.values():
            stack.push_async_callback(forge.close)
        yield _assemble(
            _Opened(
                settings=settings,
                in_force=in_force,
                store=store,
                clock=clock,
                bus=bus,
                channels=channels,
                trackers=trackers_of(channels),
                forges=forges,
                alone=only_one,
                metrics=metrics or Metrics(),
                tracing=tracing,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What the services are put together from."""

    settings: Settings
    in_force: InForce
    store: Store
    clock: StoreClock
    bus: Bus
    channels: dict[str, Channel]
    trackers: dict[str, Tracker]
    forges: dict[str, Forge]
    alone: bool
    metrics: Metrics
    tracing: Tracing


def _assemble(parts: _Opened) -> Services:
    arrived, partial, queued, spoken, commanded, finished = (Signal() for _ in range(6))
    settings, in_force, store, bus = parts.settings, parts.in_force, parts.store, parts.bus
    channels, trackers, forges = parts.channels, parts.trackers, parts.forges
    metrics, tracing, now = parts.metrics, parts.tracing, parts.clock.now
    standing = Standing(store=store, now=now)
    handed_in = HandIns(settings.data_dir)
    pages = PageLinks(public_url=settings.public_url, secret=worker_token(settings))
    intake = Intake(store=store, arrived=arrived, partial=partial, now=now)
    completer = Completer(
        store=store, channels=channels, trackers=trackers, in_force=in_force, partial=partial,
        arrived=arrived, now=now,
    )  # fmt: skip
    desk = Desk(
        store=store, in_force=in_force, pages=pages, trackers=trackers, arrived=arrived,
        queued=queued, spoken=spoken, commanded=commanded,
        dealt=Dealt(metrics=metrics, tracing=tracing), now=now,
    )  # fmt: skip
    vigil = Vigil(store=store, channels=channels, trackers=trackers, queued=queued, spoken=spoken, metrics=metrics, now=now)  # fmt: skip
    dispatcher = Dispatcher(
        store=store, bus=bus, in_force=in_force, channels=channels, queued=queued, spoken=spoken,
        commanded=commanded, metrics=metrics, tracing=tracing, now=now,
    )  # fmt: skip
    applier = Applier(
        store=store, bus=bus, in_force=in_force, spoken=spoken, finished=finished, queued=queued, metrics=metrics,
        now=now,
    )  # fmt: skip
    publisher = Publisher(
        store=store, forges=forges, handed_in=handed_in, root=settings.data_dir / PUBLISH, finished=finished,
        spoken=spoken, standing=standing, metrics=metrics, tracing=tracing, now=now,
    )  # fmt: skip
    outbox = Outbox(
        store=store, channels=channels, spoken=spoken, standing=standing, buckets=Buckets(now=now), alone=parts.alone,
        metrics=metrics, tracing=tracing, now=now,
    )  # fmt: skip
    retention = Retention(
        store=store, settings=settings.retention, data_dir=settings.data_dir, metrics=metrics, now=now
    )  # fmt: skip
    pulse, duty = Pulse(metrics=metrics), Duty(store=store)
    policy_file = PolicyFile(path=settings.policy_file or DEFAULT, in_force=in_force, store=store)
    return Services(
        settings=settings,
        in_force=in_force,
        store=store,
        bus=bus,
        channels=channels,
        forges=forges,
        intake=intake,
        outbox=outbox,
        app=_app(parts, intake=intake, handed_in=handed_in, pages=pages, pulse=pulse),
        pulse=pulse,
        loops={
            "completion": duty.only(completer.run), "desk": desk.run, "vigil": vigil.run, "dispatch": dispatcher.run,
            "commands": dispatcher.run_commands, "outbox": outbox.run, "policy": policy_file.run, "duty": duty.run,
            "clock": parts.clock.run,
            "apply": duty.only(applier.run), "publish": duty.only(publisher.run),
            "pulls": duty.only(PullWatch(store=store, forges=forges, metrics=metrics).run), "retention": duty.only(retention.run),
        },
    )  # fmt: skip


def _app(
    parts: _Opened, *, intake: Intake, handed_in: HandIns, pages: PageLinks, pulse: Pulse
) -> FastAPI:
    settings, store, forges = parts.settings, parts.store, parts.forges
    workers = WorkerApi(
        store=store,
        forges=forges,
        handed_in=handed_in,
        token=worker_token(settings),
        installation=settings.installation,
        branches=Branches(store=store, forges=forges, root=settings.data_dir / PUBLISH),
        broker=Broker(readings=open_readings(settings)),
    )
    health = Health(
        store=store,
        bus=parts.bus,
        metrics=parts.metrics,
        pulse=pulse,
        channels=parts.channels,
        forges=forges,
    )
    routers = [channel.routes(intake.receive) for channel in parts.channels.values()]
    routers += [forge.routes() for forge in forges.values()]
    pages_of_tasks = TaskPages(store=store, links=pages)
    routers += [workers.routes(), pages_of_tasks.routes(), health.routes()]
    return create_app([router for router in routers if router is not None])


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
