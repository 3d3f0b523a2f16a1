"""What operators see of `serve`: whether it can work, what waits, and what stands still."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from bot.bus import Bus
from bot.health import Health, Pulse
from bot.intake import Intake, Signal
from bot.metrics import Metrics
from bot.said import say
from bot.standing import ASK_AGAIN_SECONDS, stopped_destinations
from bot.store import outbox
from bot.store.engine import Store
from bot.web import create_app
from bot.work_metrics import WorkMetrics
from integrations.channel import Notice
from integrations.errors import AuthError, RateLimitedError
from runner.lease import Leases
from runner.protocol import Egress, Event, Finished, Usage
from runner.streams import Streams
from tests.contract.flow.office import Office, send_due
from tests.contract.flow.yard import Yard
from tests.support.builders import a_conversation
from tests.support.valkey import ValkeyServer

ABROAD = a_conversation(team="T1")
pytestmark = pytest.mark.redis
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def asking(office: Office, bus: Bus, metrics: Metrics | None = None) -> AsyncIterator[Health]:
    metrics = metrics or Metrics()
    yield Health(
        store=office.store,
        bus=bus,
        metrics=metrics,
        pulse=Pulse(metrics=metrics, now=office.clock.now),
        channels=office.channels,
        forges=("local",),
        now=office.clock.now,
    )


async def _get(health: Health, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app([health.routes()]))
    async with httpx.AsyncClient(transport=transport, base_url="http://serve") as client:
        return await client.get(path)


async def figures(health: Health) -> dict[str, float]:
    """Every sample by its name and labels."""
    text = (await _get(health, "/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_what_can_work_is_ready(office: Office, bus: Bus) -> None:
    async with asking(office, bus) as health:
        answer = await _get(health, "/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"database": "ok", "redis": "ok", "loops": "ok"},
    )


async def test_a_loop_that_fails_is_seen_until_it_has_settled(office: Office, bus: Bus) -> None:
    async with asking(office, bus) as health:
        health.pulse.began("desk")
        health.pulse.failed("desk")
        assert (await _get(health, "/readyz")).json()["loops"] == "desk"
        office.clock.forward(60)
        assert (await _get(health, "/readyz")).status_code == 200
        assert (await figures(health))['errand_loop_failures_total{loop="desk"}'] == 1


async def test_without_redis_it_is_not_ready_but_still_measured(
    office: Office, bus: Bus, valkey: ValkeyServer
) -> None:
    await office.hear("acme/web fix it")
    await valkey.kill()
    async with asking(office, bus) as health:
        answer = await _get(health, "/readyz")
        seen = await figures(health)
    assert (answer.status_code, answer.json()["redis"]) == (503, "does not answer")
    assert (seen['errand_up{part="redis"}'], seen['errand_up{part="database"}']) == (0, 1)
    assert seen['errand_tasks{state="queued"}'] == 1
    assert seen["errand_events_waiting"] != seen["errand_events_waiting"]  # not a number


async def test_without_a_database_it_is_not_ready(office: Office, bus: Bus, tmp_path: Path) -> None:
    nowhere = replace(office, store=Store(f"sqlite:///{tmp_path}/empty.db"))
    async with asking(nowhere, bus) as health:
        answer = await _get(health, "/readyz")
    assert answer.status_code == 503
    assert "errand db upgrade" in answer.json()["database"]


async def test_what_waits_is_counted_with_its_age(office: Office, bus: Bus) -> None:
    await office.hear("acme/web fix it")
    intake = Intake(store=office.store, arrived=Signal(), now=office.clock.now)
    await intake.receive(office.inbound("acme/web and another one"))
    office.clock.forward(40)
    async with asking(office, bus) as health:
        seen = await figures(health)
    assert seen['errand_tasks{state="queued"}'] == 1
    assert seen["errand_queue_oldest_seconds"] >= 40
    assert (seen["errand_inbox_new"], seen["errand_inbox_oldest_seconds"]) == (1, 40)
    assert seen["errand_outbox_pending"] > 0
    assert seen["errand_outbox_oldest_seconds"] >= 40


async def test_an_edit_of_a_message_that_is_there_is_not_late(office: Office, bus: Bus) -> None:
    await office.hear("acme/web fix it")
    await office.send()
    office.clock.forward(3600)
    await office.hear("stop", message="9.0")
    office.clock.forward(5)
    async with asking(office, bus) as health:
        assert (await figures(health))["errand_outbox_oldest_seconds"] <= 10


async def test_hosts_and_their_room_are_seen(office: Office, bus: Bus, redis: Redis) -> None:
    await Leases(redis, host="h1").announce(slots=4, free=1, version="1")
    async with asking(office, bus) as health:
        seen = await figures(health)
        assert seen['errand_host_slots{host="h1"}'] == 4
        assert seen['errand_host_free{host="h1"}'] == 1
        await Leases(redis, host="h1").withdraw()
        assert 'errand_host_free{host="h1"}' not in await figures(health)


async def test_a_run_is_counted_once_with_what_it_took(
    office: Office, yard: Yard, bus: Bus, redis: Redis
) -> None:
    metrics = Metrics()
    yard.applier.metrics = yard.dispatcher.metrics = metrics
    await office.hear("acme/web fix it")
    await yard.dispatcher.dispatch()
    [run] = await yard.host.take()
    denied = Egress(verdict="deny", host="x.test", port=443, rule="", reason="not listed")
    done, cost = Finished(outcome="done"), Usage(cost_usd=0.25)
    events: list[Event] = [yard.host.started(), denied, cost, done]
    records = [yard.host.record(run, event) for event in events]
    await bus.prepare_events()
    for record in (*records, *records):
        await Streams(redis).publish(record)
        await yard.applier.step(pending=False)
    async with asking(office, bus, metrics) as health:
        seen = await figures(health)
    assert seen["errand_launches_total"] == 1
    assert seen['errand_runs_total{agent="script",outcome="done"}'] == 1
    assert seen['errand_egress_total{verdict="deny"}'] == 1
    assert seen['errand_cost_usd_total{agent="script"}'] == 0.25
    assert seen["errand_start_seconds_count"] == 1


async def test_a_wait_that_was_asked_for_is_counted(office: Office, bus: Bus) -> None:
    metrics = Metrics()
    sender = office.outbox
    sender.metrics = metrics
    office.channel.fail(RateLimitedError("fake", 30), times=1)
    await office.hear("help")
    await send_due(sender)
    async with asking(office, bus, metrics) as health:
        seen = await figures(health)
    assert seen['errand_rate_limit_wait_seconds_total{destination="fake"}'] == 30
    assert seen['errand_messages_total{destination="fake",outcome="postponed"}'] == 1


async def test_a_revoked_token_stops_its_destination_and_no_other(office: Office, bus: Bus) -> None:
    office.channel.fail(AuthError("fake", "token_revoked"), times=1)
    await office.hear("help")
    await send_due(office.outbox)
    stopped = await stopped_destinations(office.store)
    assert stopped["fake:T0"].reason == "fake refused: token_revoked"
    async with asking(office, bus) as health:
        seen = await figures(health)
        assert seen['errand_destination_stopped{destination="fake:T0"}'] == 1
        assert seen['errand_destination_stopped{destination="local"}'] == 0
        calls = len(office.channel.calls)
        await office.hear("help", message="8.0")
        async with office.store.begin() as tx:
            hello = Notice(text="hello")
            await say(tx, ABROAD, hello, seq="1", now=office.clock.now())
        await office.send()
        assert len(office.channel.calls) == calls + 1
        assert office.channel.replies(ABROAD) == [hello]
        assert list(await stopped_destinations(office.store)) == ["fake:T0"]
        office.clock.forward(ASK_AGAIN_SECONDS[-1] + 1)
        await office.send()
        assert len(await office.notices()) == 3
        assert 'errand_destination_stopped{destination="fake:T0"}' not in await figures(health)
    assert await stopped_destinations(office.store) == {}


async def test_a_connection_that_is_down_is_seen(office: Office, bus: Bus) -> None:
    name = 'errand_channel_connected{channel="fake"}'
    async with asking(office, bus) as health:
        assert name not in await figures(health)
        office.channel.connected = False
        assert (await figures(health))[name] == 0
        office.channel.connected = True
        assert (await figures(health))[name] == 1


async def test_dead_letters_are_counted(office: Office, bus: Bus) -> None:
    await office.hear("help")
    async with office.store.begin() as tx:
        [row] = await outbox.claim(tx, now=office.clock.now(), lease_seconds=9, limit=1)
        await outbox.dead(tx, row.id, error="why")
    async with asking(office, bus) as health:
        assert (await figures(health))["errand_outbox_dead"] == 1


def _names_of(text: str) -> set[str]:
    return set(re.findall(r"\berrand_[a-z_]+\b", text))


async def test_the_dashboard_asks_for_metrics_that_there_are(office: Office, bus: Bus) -> None:
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for name in _names_of(target["expr"])
    }
    metrics = Metrics()
    WorkMetrics(metrics.registry)
    async with asking(office, bus, metrics):
        known = _families(metrics)
    assert asked - known == set()
    assert len(asked) > 20


async def test_every_metric_is_in_the_documents(office: Office, bus: Bus) -> None:
    told = _names_of((ROOT / "docs/observability.md").read_text())
    metrics = Metrics()
    WorkMetrics(metrics.registry)
    async with asking(office, bus, metrics):
        known = _families(metrics)
    bare = {name for name in known if not name.endswith(("_bucket", "_sum", "_count", "_created"))}
    assert bare - told == set()
    assert told - known == set()


def _families(metrics: Metrics) -> set[str]:
    """Names of samples, as Prometheus stores them."""
    names: set[str] = set()
    for family in metrics.registry.collect():
        match family.type:
            case "counter":
                names.add(f"{family.name}_total")
            case "histogram":
                names |= {f"{family.name}{end}" for end in ("", "_bucket", "_sum", "_count")}
            case _:
                names.add(family.name)
    return names
